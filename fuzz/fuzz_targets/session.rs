//! Any bytes as what the other end of a session sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_proto::fuzz::session(data));

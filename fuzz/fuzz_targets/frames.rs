//! Any bytes as a stream of frames and the messages in them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_proto::fuzz::frames(data));

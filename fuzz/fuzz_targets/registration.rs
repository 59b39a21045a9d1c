//! Any bytes as what an agent sends before it is registered.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_proto::fuzz::registration(data));

//! Any text as an address, an ID and a relay URL.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_proto::fuzz::texts(data));

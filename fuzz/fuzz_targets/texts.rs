//! Any text as an address, an ID, a relay URL and a list of those.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_proto::fuzz::texts(data));

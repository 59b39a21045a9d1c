//! Any bytes as an `authorized_keys` file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_agent::users::authorized_keys::fuzz_authorized_keys(data));

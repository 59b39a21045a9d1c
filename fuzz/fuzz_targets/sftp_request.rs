//! Any bytes as an SFTP request.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| converge_agent::sftp::fuzz_request(data));

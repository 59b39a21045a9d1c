//! Texts are Unicode here.

use std::ffi::OsString;

/// The machine's own name.
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// A text as this system has it; what is not UTF-8 is replaced.
pub(crate) fn text_from_client(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

//! Texts are bytes here, of no certain encoding.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The machine's own name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A text as this system has it.
pub(crate) fn text_from_client(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

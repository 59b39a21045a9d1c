//! What the machine says about itself, and texts that a client sends as bytes.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{host_name, text_from_client};
#[cfg(windows)]
pub(crate) use windows::{host_name, text_from_client};

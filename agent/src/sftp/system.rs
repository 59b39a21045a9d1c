//! What the server asks of the system. Everything that differs between platforms is below.

#[cfg(any(test, windows))]
mod drives;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::*;
#[cfg(windows)]
pub(super) use windows::*;

use super::attrs::Attrs;

/// What the system says about a file: what goes over the wire, and the number of links for the long name.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileStat {
    pub(super) attrs: Attrs,
    pub(super) links: u64,
}

/// The nearest time this protocol can name, in seconds since 1970.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

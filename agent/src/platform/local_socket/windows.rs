//! None yet: the standard library and the runtime have no Unix sockets for Windows.

use std::io;
use std::path::Path;

use super::Halves;

/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "elsewhere there is something to wait for")]
pub(crate) async fn connect(_: &Path) -> io::Result<Halves> {
    Err(unsupported())
}

/// There is none.
pub(crate) enum Listener {}

impl Listener {
    /// # Errors
    /// Always.
    pub(crate) fn bind(_: &Path, _queue: u32) -> io::Result<Self> {
        Err(unsupported())
    }

    /// Nobody has one to call it on.
    #[expect(clippy::unused_async, reason = "elsewhere there is something to wait for")]
    pub(crate) async fn accept(&self) -> io::Result<Halves> {
        match *self {}
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "an agent on Windows has no Unix sockets")
}

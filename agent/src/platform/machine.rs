//! What the machine says about itself, and texts that a client sends as bytes.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{host_name, text_from_client};
#[cfg(windows)]
pub(crate) use windows::{host_name, text_from_client};

use std::path::PathBuf;

/// The file of this program. Where the system does not tell (Linux without `/proc`), what it was started as, if that is a
/// path; nothing when that is no file, either.
pub(crate) fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok().or_else(|| {
        let started_as = PathBuf::from(std::env::args_os().next()?);
        let is_path = started_as.components().nth(1).is_some();
        std::path::absolute(started_as).ok().filter(|path| is_path && path.is_file())
    })
}

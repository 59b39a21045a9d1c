//! The control socket: how programs inside a session talk to the agent.
//!
//! A Unix socket `control` in the agent directory, which only the agent's own user can enter. One request per
//! connection: a line of JSON each way.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

pub mod client;
pub mod messages;
pub mod server;

pub use client::{ControlError, request};
pub use messages::{Answer, Envelope, Request, Status};
pub use server::{Control, ControlServer};

/// The socket's name in the agent directory.
const SOCKET_FILE: &str = "control";
/// The longest line either way, in bytes. A status with hundreds of users has less.
const MAX_LINE_BYTES: u64 = 256 * 1024;
/// The longest path that fits into a Unix socket's address everywhere.
const MAX_PATH_BYTES: usize = 100;

/// A path for the socket in `directory` that a socket's address has room for. The file, if there is one, must stay open
/// while the path is used.
fn socket_path(directory: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = directory.join(SOCKET_FILE);
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return Ok((path, None));
    }
    // The directories of some runners have long names; an open directory has a short one.
    let open = File::open(directory)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    let short = Path::new("/proc/self/fd").join(number.to_string());
    if !short.exists() {
        let text = format!("the path {} is too long for a socket; choose a shorter --dir", path.display());
        return Err(io::Error::other(text));
    }
    Ok((short.join(SOCKET_FILE), Some(open)))
}

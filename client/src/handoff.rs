//! What the processes of one `converge ssh` tell each other.
//!
//! `converge ssh` runs ssh, and ssh runs `converge proxy` and `converge host-key`. They share a private directory:
//! the proxy leaves the host key there before the first byte of SSH, so that asking for the key needs no second
//! connection, and, when it fails, its exit status, which ssh would replace by its own.

use crate::error::ExitStatus;
use converge_proto::HostKey;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The private directory.
#[derive(Clone, Debug)]
pub struct Handoff(PathBuf);

impl Handoff {
    /// The directory at `path`, which exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the host key for `converge host-key`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn put_host_key(&self, key: &HostKey) -> io::Result<()> {
        self.put("host_key", &key.to_openssh())
    }

    /// `ssh-ed25519 AAAA…`, when the proxy has left it.
    pub fn host_key(&self) -> Option<String> {
        fs::read_to_string(self.0.join("host_key")).ok()
    }

    /// Leaves the exit status of a proxy that failed.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn put_status(&self, status: ExitStatus) -> io::Result<()> {
        self.put("status", &(status as u8).to_string())
    }

    /// The exit status of the proxy, when it failed.
    pub fn status(&self) -> Option<u8> {
        fs::read_to_string(self.0.join("status")).ok()?.parse().ok()
    }

    /// In one step, so that no reader sees half of it.
    fn put(&self, name: &str, contents: &str) -> io::Result<()> {
        let beside = self.0.join(format!("{name}.{}", std::process::id()));
        fs::write(&beside, contents)?;
        fs::rename(beside, self.0.join(name))
    }
}

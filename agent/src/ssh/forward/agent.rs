//! The socket through which programs reach the authentication agent of the person who has logged in (`-A`).

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use russh::server::Handle;
use tempfile::TempDir;

use super::Means;
use super::listener::{self, Listener};
use super::remote::{self, Origin};

/// The socket's name, in a directory that nobody else can enter.
const SOCKET_NAME: &str = "agent";

/// A socket in a directory of its own, both removed when it is dropped.
pub(super) struct Socket {
    listener: Listener,
    dir: TempDir,
}

impl Socket {
    /// Below `place`, or else in the system's directory for temporary files.
    pub(super) fn new(place: Option<&Path>) -> io::Result<Self> {
        let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
        let dir = tempfile::Builder::new()
            .prefix("ssh-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(place)?;
        let listener = listener::unix(&dir.path().join(SOCKET_NAME))?;
        Ok(Self { listener, dir })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join(SOCKET_NAME)
    }

    /// Serves programs until the connection ends.
    pub(super) async fn serve(self, means: Means, connection: Handle) {
        let Self { listener, dir } = self;
        let ended = means.life.ended.clone();
        remote::serve(listener, Origin::Agent, means, connection, ended).await;
        drop(dir);
    }
}

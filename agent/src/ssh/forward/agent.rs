//! The socket through which programs reach the authentication agent of the person who has logged in (`-A`).

use std::io;
use std::path::{Path, PathBuf};

use russh::server::Handle;
use tempfile::TempDir;

use super::Means;
use super::listener::{self, Listener};
use super::remote::{self, Origin};
use crate::platform::files::private_temporary;

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
        let dir = private_temporary("ssh-", &place)?;
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_with_a_name_too_long_for_sockets_is_an_error_and_leaves_nothing() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let long = place.path().join("x".repeat(100));
        std::fs::create_dir(&long).expect("it can be made");
        let error = Socket::new(Some(&long)).err().expect("no socket has such a name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_dir(&long).expect("it can be read").count(), 0);
        let socket = Socket::new(Some(place.path())).expect("there is room for this one");
        assert!(socket.path().exists());
        drop(socket);
        assert_eq!(std::fs::read_dir(place.path()).expect("it can be read").count(), 1);
    }
}

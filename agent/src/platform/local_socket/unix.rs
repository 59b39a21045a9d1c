//! Unix sockets.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::Halves;

/// Connects. [`WouldBlock`](io::ErrorKind::WouldBlock): too many wait there already; it may be tried again.
pub(crate) async fn connect(path: &Path) -> io::Result<Halves> {
    UnixStream::connect(path).await.map(halves)
}

/// Waits for connections in one place.
pub(crate) struct Listener {
    /// The file is removed before the socket is closed: until then no other file can have its identity.
    _file: SocketFile,
    listener: UnixListener,
}

impl Listener {
    /// Listens on a socket that only the agent's own user may connect to. Fails when there is a file already, even the
    /// socket of a program that is gone, as OpenSSH's server does by default.
    pub(crate) fn bind(path: &Path, queue: u32) -> io::Result<Self> {
        let socket = UnixSocket::new_stream()?;
        // Before there is a file: its mode is taken from here, so that nobody gets in between.
        if cfg!(target_os = "linux") {
            rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        }
        socket.bind(path)?;
        let file = SocketFile::new(path)?;
        // For systems that do not take the mode from the socket.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { _file: file, listener: socket.listen(queue)? })
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Halves> {
        self.listener.accept().await.map(|(stream, _)| halves(stream))
    }
}

fn halves(stream: UnixStream) -> Halves {
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

/// Removes the file of a socket when it is dropped, unless there is another one in its place by then.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Who took the directory away meanwhile took the file, too.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("socket");
        let listener = Listener::bind(&path, 1).expect("it can be made");
        let mode = std::fs::symlink_metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(Listener::bind(&path, 1).err().expect("it exists").kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());

        let listener = Listener::bind(&path, 1).expect("it can be made");
        std::fs::remove_file(&path).expect("it can be removed");
        std::fs::write(&path, "somebody else's").expect("it can be written");
        drop(listener);
        assert!(path.exists(), "not ours");
    }
}

//! Places where connections are waited for on a client's behalf: ports and Unix sockets.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::pump::Socket;

/// Connections that wait to be taken; what OpenSSH's server allows.
const QUEUE: u32 = 128;
/// How often a port is chosen that must be free in IPv4 and in IPv6.
const PORT_ATTEMPTS: usize = 8;

/// Waits for connections in one place.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// The file is removed before the socket is closed: until then no other file can have its identity.
    Unix(#[expect(dead_code, reason = "it is there to be dropped")] SocketFile, UnixListener),
}

impl Listener {
    /// The next connection, and who it is from.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (stream.into(), Some(peer))),
            Self::Unix(_, listener) => listener.accept().await.map(|(stream, _)| (stream.into(), None)),
        }
    }
}

/// Listens on all addresses that `host` stands for, on the same port; 0 chooses one. The port comes back.
///
/// As in [RFC 4254 section 7.1](https://www.rfc-editor.org/rfc/rfc4254#section-7.1): `""` (and `*`) is every interface,
/// `localhost` the loopback one, both in IPv4 and IPv6; an address is that one alone. Names are not looked up.
pub(super) fn tcp(host: &str, port: u16) -> io::Result<(Vec<Listener>, u16)> {
    let addresses: Vec<IpAddr> = match host {
        "" | "*" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        address => vec![
            address
                .parse()
                .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "not an address of this machine"))?,
        ],
    };
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_all(&addresses, port) {
            // Chosen in IPv4 and taken in IPv6.
            Err(error) if error.kind() == ErrorKind::AddrInUse && attempts > 0 => {}
            result => return result,
        }
    }
}

fn bind_all(addresses: &[IpAddr], mut port: u16) -> io::Result<(Vec<Listener>, u16)> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for &address in addresses {
        match bind(SocketAddr::new(address, port)) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(Listener::Tcp(listener));
            }
            // Many containers have no IPv6.
            Err(error) if is_without_family(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok((listeners, port)),
    }
}

fn is_without_family(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // IPv4 has a socket of its own.
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    // Connections of an earlier listener that are still being closed do not matter.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Listens on a Unix socket that only the agent's own user may connect to. Fails when there is a file already, even
/// the socket of a program that is gone, as OpenSSH's server does by default.
pub(super) fn unix(path: &Path) -> io::Result<Listener> {
    let socket = UnixSocket::new_stream()?;
    // Before there is a file: its mode is taken from here, so that nobody gets in between.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    let file = SocketFile::new(path)?;
    // For systems that do not take the mode from the socket.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(file, socket.listen(QUEUE)?))
}

/// Removes the file of a socket when it is dropped, unless there is another one in its place by then.
pub(super) struct SocketFile {
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
    async fn a_port_is_the_same_in_both_families_and_taken_in_both() {
        let (listeners, port) = tcp("localhost", 0).expect("a free port");
        assert!(port != 0 && !listeners.is_empty());
        for other in ["localhost", "127.0.0.1"] {
            let error = tcp(other, port).err().expect("taken");
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{other}");
        }
        drop(listeners);
        tcp("", port).expect("free again, and everywhere");
        assert_eq!(tcp("some.name", 0).err().expect("a name").kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn a_socket_is_private_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("socket");
        let listener = unix(&path).expect("it can be made");
        let mode = std::fs::symlink_metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(unix(&path).err().expect("it exists").kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());

        let listener = unix(&path).expect("it can be made");
        std::fs::remove_file(&path).expect("it can be removed");
        std::fs::write(&path, "somebody else's").expect("it can be written");
        drop(listener);
        assert!(path.exists(), "not ours");
    }
}

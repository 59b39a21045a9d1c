//! Places where connections are waited for on a client's behalf: ports and Unix sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::pump::Socket;
use crate::platform::local_socket;
use crate::platform::net::{is_without_family, may_be_bound_again};

/// Connections that wait to be taken; what OpenSSH's server allows.
const QUEUE: u32 = 128;
/// How often a port is chosen that must be free in IPv4 and in IPv6.
const PORT_ATTEMPTS: usize = 8;

/// Waits for connections in one place.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(local_socket::Listener),
}

impl Listener {
    /// The next connection, and who it is from.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (stream.into(), Some(peer))),
            Self::Unix(listener) => listener.accept().await.map(|halves| (halves.into(), None)),
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
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable || is_without_family(&error) => {
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok((listeners, port)),
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // IPv4 has a socket of its own.
            SockRef::from(&socket).set_only_v6(true)?;
            socket
        }
    };
    may_be_bound_again(&socket)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Listens on a Unix socket; see [`local_socket::Listener::bind`].
pub(super) fn unix(path: &Path) -> io::Result<Listener> {
    local_socket::Listener::bind(path, QUEUE).map(Listener::Unix)
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
}

//! Who is at the other end of a connection.

use std::net::SocketAddr;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// As people write it: an IPv4 peer of a socket for both families is an IPv4 peer.
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address: SocketAddr::new(address.ip().to_canonical(), address.port()) }
    }
}

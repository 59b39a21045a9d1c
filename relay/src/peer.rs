//! Who is at the other end of a connection.

use std::net::SocketAddr;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
}

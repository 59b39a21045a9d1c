//! What relays of one cluster say to each other.
//!
//! On a link between relays a stream that begins with [`Forward`] then has what a client has said to the first of them, from its
//! `Connect` or `Lookup` on. The second one answers as it would answer the client, and never forwards itself. A stream that
//! begins with [`Ask`] has one request of HTTP/1.1 and its answer, and one that begins with [`Packets`] has UDP datagrams.

use crate::rendezvous::messages::Name;
use minicbor::{Decode, Encode};
use std::net::{IpAddr, SocketAddr};

/// The ALPN protocol between relays. It has its own version: relays of one cluster are upgraded one after the other, so a
/// relay speaks that of the release before it too.
pub const CLUSTER_ALPN: &[u8] = b"converge-cluster/1";

/// Relay → relay, first frame of a stream: whom the rest of the stream comes from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Forward {
    /// The client's address and port, as the first relay sees them.
    #[n(0)]
    pub address: Name,
    /// Whether the client is on WebSocket rather than on QUIC.
    #[n(1)]
    pub is_websocket: bool,
    /// The name of the token that the first relay has let it in by.
    #[n(2)]
    pub token: Option<Name>,
}

/// Relay → relay, first frame of a stream: on whose behalf the request is that follows. The first relay has let them in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ask {
    /// Whether they may change things, and not only read.
    #[n(0)]
    pub may_write: bool,
    /// The name of the token that the first relay has let them in by.
    #[n(1)]
    pub token: Option<Name>,
    /// The IDs that they may see: a pattern in which `*` stands for any characters. Without it, all.
    #[n(2)]
    pub ids: Option<Name>,
}

/// Relay → relay, first frame of a stream: [`Packet`]s follow, and there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Packets {}

/// Relay → relay, behind [`Packets`]: a UDP datagram that has arrived at the wrong relay, or the answer to one, which is to
/// leave from there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Packet {
    /// Whether it is to be sent; else it was received.
    #[n(0)]
    pub is_answer: bool,
    /// The address of the peer, from which it came or to which it goes: 4 or 16 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ip: Vec<u8>,
    /// Its port.
    #[n(2)]
    pub port: u16,
    /// The datagram.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub datagram: Vec<u8>,
}

impl Packet {
    /// A datagram from or to this peer.
    pub fn new(is_answer: bool, peer: SocketAddr, datagram: &[u8]) -> Self {
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Self { is_answer, ip, port: peer.port(), datagram: datagram.to_vec() }
    }

    /// The peer; nothing when its address is neither of 4 nor of 16 bytes.
    pub fn peer(&self) -> Option<SocketAddr> {
        let four = <[u8; 4]>::try_from(&*self.ip).map(IpAddr::from);
        let ip = four.or_else(|_| <[u8; 16]>::try_from(&*self.ip).map(IpAddr::from));
        ip.ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

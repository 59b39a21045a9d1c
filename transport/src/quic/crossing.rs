//! Packets that arrive at the wrong relay of a cluster.
//!
//! A balancer that does not read connection IDs sends the packets of a client whose address has changed to any relay.
//! What then happens, with a connection at relay A and a packet of it that arrives at relay B:
//!
//! 1. B's socket reads A's number in the packet and offers it to B's [`Strays`] as a [`Stray`].
//! 2. They take it and carry it to A; how is theirs to know. What they do not want goes to B's quinn, which answers with
//!    a stateless reset, so that the client dials again at once.
//! 3. A gets it by [`Crossing::deliver`]. A's quinn sees it come from an address that stands for B and the client
//!    (`synthetic`), so for quinn the client has migrated: validating the path, the congestion window and the MTU of
//!    the new path are quinn's own.
//! 4. What A's quinn sends there goes to A's [`Strays`] as an [`Answer`], which they carry to B.
//! 5. B sends it from its own socket by [`Crossing::send_answer`]: the client, and every box on the way, hears from where
//!    it has sent to.
//!
//! When the client's packets reach A themselves again, that is one more migration.
//!
//! Only packets whose ID a relay has chosen are looked at, see `whose`; a handshake begins wherever it arrives. What is
//! delivered is not looked at for another relay once more, so nothing goes in circles. All of this is a network: what
//! does not fit a queue is dropped, and quinn sends it again. ECN marks do not cross, which quinn notices and does
//! without.
//!
//! A relay that resets what it does not forward can be made to give away a reset token: whoever sees a client's packet
//! and can send one with the same ID to another relay of the cluster gets the token from there and can end that client's
//! connection with it (RFC 9000 section 21.11). Forwarding leaves that only for relays that cannot be reached.

mod recent;
mod socket;
mod synthetic;
mod whose;

use crate::quic::{ClusterCids, MTU_UPPER_BOUND};
use bytes::Bytes;
use converge_proto::RelayNumber;
use quinn::{AsyncUdpSocket, udp::Transmit};
use recent::Recent;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};
use synthetic::Synthetic;
use tokio::sync::mpsc;
use whose::whose;

pub(super) use socket::CrossingSocket;

/// Datagrams from other relays that may wait for quinn: some milliseconds of a fast link. With the largest, 6 MiB.
const MAX_WAITING: usize = 1024;
/// Peers whose packets go to other relays, and to whom answers may therefore be sent, at once.
const MAX_VISITORS: usize = 16 * 1024;

/// A datagram that has arrived here and is for another relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray<'a> {
    /// Whose it is, as far as its connection ID can be believed: anybody can write one.
    pub relay: RelayNumber,
    /// Where it came from.
    pub from: SocketAddr,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// A datagram for this relay that has arrived at another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Where it has arrived.
    pub via: RelayNumber,
    /// Where it came from to that relay.
    pub from: SocketAddr,
    /// The datagram.
    pub bytes: Bytes,
}

/// A datagram that another relay is to send from its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which relay.
    pub via: RelayNumber,
    /// To whom.
    pub to: SocketAddr,
    /// The datagram.
    pub bytes: Bytes,
}

/// What becomes of a stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was taken. That includes what had to be dropped because too much was on its way: a reset would end a
    /// connection that only is busy.
    Taken,
    /// The relay is unknown or cannot be reached, or nothing is forwarded here: the peer gets a stateless reset.
    NotWanted,
}

/// Who carries datagrams between relays. Both methods are called while quinn holds locks, for every datagram: they hand
/// it on, for example to a bounded channel, and neither wait nor use the endpoint.
pub trait Strays: fmt::Debug + Send + Sync {
    /// A datagram for another relay.
    fn stray(&self, stray: Stray<'_>) -> Fate;

    /// A datagram that another relay is to send. It may be dropped.
    fn answer(&self, answer: Answer);
}

/// Forwards nothing: what arrives at the wrong relay is reset.
#[derive(Debug)]
pub struct NotForwarded;

impl Strays for NotForwarded {
    fn stray(&self, _: Stray<'_>) -> Fate {
        Fate::NotWanted
    }

    fn answer(&self, _: Answer) {}
}

/// An endpoint's connection to the other relays of its cluster. Clones are the same one.
#[derive(Clone)]
pub struct Crossing(Arc<Shared>);

struct Shared {
    number: RelayNumber,
    cids: ClusterCids,
    strays: Arc<dyn Strays>,
    delivering: mpsc::Sender<Forwarded>,
    /// What is polled by the endpoint's task alone.
    delivered: Mutex<mpsc::Receiver<Forwarded>>,
    synthetic: Mutex<Synthetic>,
    /// Who has sent strays that were taken, and to which address of ours.
    visitors: Mutex<Recent<SocketAddr, Option<IpAddr>>>,
    /// The real one below quinn's. It lives as long as the endpoint.
    socket: OnceLock<Weak<dyn AsyncUdpSocket>>,
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing").field("number", &self.0.number).field("strays", &self.0.strays).finish()
    }
}

impl Crossing {
    /// For the endpoint of the relay of this number. `cids` has the cluster's format.
    pub fn new(number: RelayNumber, cids: ClusterCids, strays: Arc<dyn Strays>) -> Self {
        let (delivering, delivered) = mpsc::channel(MAX_WAITING);
        Self(Arc::new(Shared {
            number,
            cids,
            strays,
            delivering,
            delivered: Mutex::new(delivered),
            synthetic: Mutex::default(),
            visitors: Mutex::new(Recent::new(MAX_VISITORS)),
            socket: OnceLock::new(),
        }))
    }

    /// Which relay this is.
    pub fn number(&self) -> RelayNumber {
        self.0.number
    }

    pub(super) fn cids(&self) -> &ClusterCids {
        &self.0.cids
    }

    /// A datagram that another relay has taken as a stray goes to quinn. Returns whether it does: not when it is not for
    /// this relay, when it is larger than any path lets through, and when too many wait.
    pub fn deliver(&self, forwarded: Forwarded) -> bool {
        forwarded.bytes.len() <= usize::from(MTU_UPPER_BOUND)
            && whose(&forwarded.bytes, &self.0.cids) == Some(self.0.number)
            && self.0.delivering.try_send(forwarded).is_ok()
    }

    /// Sends an answer from this endpoint's socket. Only to those whose strays were taken lately: a cluster's relays are
    /// no way for each other to speak to anybody. Returns whether it was sent; the socket's buffer may be full.
    pub fn send_answer(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        let Some(src_ip) = lock(&self.0.visitors).get(&to) else { return false };
        let Some(socket) = self.0.socket.get().and_then(Weak::upgrade) else { return false };
        let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip };
        socket.try_send(&transmit).is_ok()
    }

    /// Who is behind an address that quinn knows a peer by, and at which relay, when it is one that stands for somebody
    /// else: for logs and for limits per network.
    pub fn origin(&self, address: SocketAddr) -> Option<(RelayNumber, SocketAddr)> {
        if !synthetic::is_synthetic(address) {
            return None;
        }
        lock(&self.0.synthetic).peer_at(address)
    }

    /// The socket for quinn, above the real one.
    ///
    /// # Errors
    /// When there is one already: answers have to leave from the socket that the stray has come to.
    pub(super) fn socket(&self, real: Arc<dyn AsyncUdpSocket>) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let taken = |_| io::Error::new(io::ErrorKind::AlreadyExists, "a crossing serves one endpoint");
        self.0.socket.set(Arc::downgrade(&real)).map_err(taken)?;
        Ok(Arc::new(CrossingSocket::new(real, self.0.clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

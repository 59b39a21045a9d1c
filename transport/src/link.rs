//! One authenticated connection of an agent or a client to a relay.

use crate::{
    close::{CloseCode, LinkError},
    dial::RelayPlace,
    quic,
    received::ReceivedBytes,
    stream::Stream,
    websocket::{self, mux::MuxLink},
};
use converge_proto::rendezvous::handshake::ChannelBinding;
use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long [`Link::finish`] waits for the peer to hear of the end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a QUIC peer may hold an acknowledgement back (RFC 9000 section 18.2, `max_ack_delay`).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What a link runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC.
    Quic,
    /// WebSocket.
    WebSocket,
}

impl Carrier {
    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A link. Clones are the same link.
#[derive(Clone, Debug)]
pub struct Link {
    kind: Kind,
    exporter: Option<[u8; 32]>,
    fell_back: Option<bool>,
    place: Option<Arc<RelayPlace>>,
}

#[derive(Clone, Debug)]
enum Kind {
    Quic {
        connection: quinn::Connection,
        /// Only on the dialing end, where the link has an endpoint of its own.
        dialed: Option<Dialed>,
        rooms: Arc<quic::Rooms>,
    },
    /// An agent's: many streams over one WebSocket.
    Multiplexed(MuxLink),
    /// A client's: the WebSocket is the one stream.
    Single { stream: Arc<Mutex<Option<Stream>>>, received_bytes: ReceivedBytes },
}

/// Room for one session on a link.
#[derive(Debug)]
pub struct Room(Link);

impl Drop for Room {
    fn drop(&mut self) {
        if let Kind::Quic { rooms, .. } = &self.0.kind {
            rooms.leave();
        }
    }
}

/// The dialing end of a QUIC link.
#[derive(Clone, Debug)]
struct Dialed {
    endpoint: quinn::Endpoint,
    /// The address from which this machine spoke to the peer last, as far as it knows.
    source: Arc<Mutex<Option<IpAddr>>>,
}

impl Link {
    /// A QUIC connection as a link. `endpoint` is the dialing end's own.
    pub fn quic(connection: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Self {
        let exporter = quic::exporter(&connection);
        let dialed = endpoint.map(|endpoint| {
            let source = quic::source_address(connection.remote_address()).ok();
            Dialed { endpoint, source: Arc::new(Mutex::new(source)) }
        });
        Self {
            kind: Kind::Quic { connection, dialed, rooms: Arc::default() },
            exporter,
            fell_back: None,
            place: None,
        }
    }

    /// Many streams over one WebSocket. `exporter` is that of the TLS connection below, when there is one.
    pub fn multiplexed(link: MuxLink, exporter: Option<[u8; 32]>) -> Self {
        Self { kind: Kind::Multiplexed(link), exporter, fell_back: None, place: None }
    }

    /// A WebSocket that is one stream, which [`open_stream`](Self::open_stream) gives out once.
    pub fn single(sender: websocket::Sender, receiver: websocket::Receiver) -> Self {
        let received_bytes = sender.received_bytes();
        let stream = Stream::websocket(sender, receiver);
        let kind = Kind::Single { stream: Arc::new(Mutex::new(Some(stream))), received_bytes };
        Self { kind, exporter: None, fell_back: None, place: None }
    }

    /// What the link runs on.
    pub fn carrier(&self) -> Carrier {
        match &self.kind {
            Kind::Quic { .. } => Carrier::Quic,
            Kind::Multiplexed(_) | Kind::Single { .. } => Carrier::WebSocket,
        }
    }

    /// The same link, which was ready before one on the other carrier.
    pub(crate) fn won_race(self) -> Self {
        let fell_back = self.carrier() == Carrier::WebSocket;
        Self { fell_back: Some(fell_back), ..self }
    }

    /// The same link, which leads there.
    pub(crate) fn at(self, place: RelayPlace) -> Self {
        Self { place: Some(Arc::new(place)), ..self }
    }

    /// Where the link leads; nothing where the peer has dialed.
    pub fn place(&self) -> Option<&RelayPlace> {
        self.place.as_deref()
    }

    /// Whether WebSocket was ready before QUIC; nothing where one carrier only was tried, or the peer has dialed.
    pub fn fell_back(&self) -> Option<bool> {
        self.fell_back
    }

    /// 32 bytes of the TLS exporter, when TLS ends at this end of the link.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.exporter
    }

    /// What a relay may demand as proof on this link: QUIC's TLS always ends at both ends of the link; that of a
    /// WebSocket may end at a proxy before us.
    pub fn channel_binding(&self) -> ChannelBinding {
        match (self.carrier(), self.exporter) {
            (Carrier::Quic, Some(exporter)) => ChannelBinding::Exporter(exporter),
            (Carrier::WebSocket, Some(exporter)) => ChannelBinding::ExporterIfDirect(exporter),
            (_, None) => ChannelBinding::None,
        }
    }

    /// Opens a stream; waits while the peer allows no more.
    ///
    /// # Errors
    /// [`LinkError`] when the link has ended.
    pub async fn open_stream(&self) -> Result<Stream, LinkError> {
        match &self.kind {
            Kind::Quic { connection, .. } => {
                let (send, recv) = connection.open_bi().await.map_err(quic::link_error)?;
                Ok(Stream::quic(send, recv))
            }
            Kind::Multiplexed(link) => link.open_stream().await.map(Stream::multiplexed),
            Kind::Single { stream, .. } => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                stream.ok_or_else(|| LinkError::Broken("this WebSocket carries one stream only".to_owned()))
            }
        }
    }

    /// The next stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] when the link has ended.
    pub async fn accept_stream(&self) -> Result<Stream, LinkError> {
        match &self.kind {
            Kind::Quic { connection, .. } => {
                let (send, recv) = connection.accept_bi().await.map_err(quic::link_error)?;
                Ok(Stream::quic(send, recv))
            }
            Kind::Multiplexed(link) => link.accept_stream().await.map(Stream::multiplexed),
            Kind::Single { .. } => std::future::pending().await,
        }
    }

    /// Ends the link and all its streams, and tells the peer why. Without effect when it has ended.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match &self.kind {
            Kind::Quic { connection, .. } => connection.close(code.0.into(), reason.as_bytes()),
            Kind::Multiplexed(link) => link.close(code, reason),
            Kind::Single { stream, .. } => drop(stream.lock().unwrap_or_else(PoisonError::into_inner).take()),
        }
    }

    /// Waits until the link has ended, whoever ended it. Cancel-safe.
    pub async fn closed(&self) -> LinkError {
        match &self.kind {
            Kind::Quic { connection, .. } => quic::link_error(connection.closed().await),
            Kind::Multiplexed(link) => link.closed().await,
            Kind::Single { .. } => std::future::pending().await,
        }
    }

    /// Makes room for what one more session has under way, as long as the returned value is held. Only over QUIC is room
    /// scarce.
    pub fn room(&self) -> Room {
        if let Kind::Quic { connection, rooms, .. } = &self.kind {
            rooms.enter(connection);
        }
        Room(self.clone())
    }

    /// Lets the peer have so many streams open at once, where the link was accepted over QUIC; before it may have
    /// [few](quic::FIRST_STREAMS).
    pub fn allow_streams(&self, max: u32) {
        if let Kind::Quic { connection, dialed: None, .. } = &self.kind {
            connection.set_max_concurrent_bi_streams(max.into());
        }
    }

    /// How many bytes have come in since it began, with everything that the carrier adds but TLS on WebSocket. Never less than
    /// before; no more than before is a peer from whom nothing is heard.
    pub fn received_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Quic { connection, .. } => connection.stats().udp_rx.bytes,
            Kind::Multiplexed(link) => link.received_bytes(),
            Kind::Single { received_bytes, .. } => received_bytes.read(),
        }
    }

    /// Follows a [change of the network](crate::NetworkChanges): when this machine now speaks to the peer from another
    /// address, the link gets a [new socket](Self::rebind). Most changes are about something else, and a path that works
    /// does not begin again for them.
    ///
    /// # Errors
    /// When there is no new socket, or no way to the peer; the link goes on with the old one.
    pub fn follow_network_change(&self) -> io::Result<()> {
        let Kind::Quic { connection, dialed: Some(dialed), .. } = &self.kind else { return Ok(()) };
        let now = quic::source_address(connection.remote_address())?;
        let before = dialed.source.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before == Some(now) { Ok(()) } else { self.rebind() }
    }

    /// Gives a QUIC link that was dialed from here a new UDP socket, and tells the peer at once from where it speaks now
    /// (RFC 9000 section 9). Nothing on any other link.
    ///
    /// # Errors
    /// When there is no new socket; the link goes on with the old one.
    pub fn rebind(&self) -> io::Result<()> {
        let Kind::Quic { dialed: Some(Dialed { endpoint, .. }), .. } = &self.kind else { return Ok(()) };
        endpoint.rebind(quic::socket_like(endpoint)?)
    }

    /// Waits until what is on its way can have been acknowledged. To be called before a link is closed on which much
    /// was being sent and its streams were just reset: a QUIC connection whose congestion window is full would close
    /// without a word to its peer ([quinn#2785](https://github.com/quinn-rs/quinn/issues/2785)).
    pub async fn settle(&self) {
        if let Kind::Quic { connection, .. } = &self.kind {
            let round_trips = connection.rtt() * 3 + ACK_DELAY;
            tokio::time::sleep(round_trips.min(FINISH_TIMEOUT)).await;
        }
    }

    /// Closes the link and waits, for at most a second, until the peer has been told. Over QUIC this is said once: quinn's own
    /// `wait_idle` waits three probe timeouts more, in which nothing is to come.
    pub async fn finish(self, code: CloseCode, reason: &str) {
        let is_closed =
            matches!(&self.kind, Kind::Quic { connection, .. } if connection.close_reason().is_some());
        self.close(code, reason);
        let told = async {
            match &self.kind {
                Kind::Quic { connection, dialed: Some(dialed), .. } if !is_closed => tokio::select! {
                    () = dialed.endpoint.wait_idle() => {}
                    () = quic::close_sent(connection) => {}
                },
                Kind::Multiplexed(link) => link.ended().await,
                Kind::Quic { .. } | Kind::Single { .. } => {}
            }
        };
        let _ = tokio::time::timeout(FINISH_TIMEOUT, told).await;
    }
}

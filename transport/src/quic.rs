//! Links over QUIC (RFC 9000), with quinn.

mod congestion;
mod connection_id;
mod crossing;
mod idle_memory;
mod listening;

pub use connection_id::{
    CONNECTION_ID_BYTES, CidFormat, ClusterCids, KEY_BYTES as CONNECTION_ID_KEY_BYTES, NONCE_BYTES,
    Protection, Rotation, SERVER_ID_BYTES,
};
pub use crossing::{Answer, Crossing, Fate, Forwarded, NotForwarded, Stray, Strays};
pub use listening::{ConnectionIds, bind, listen, listen_on};

use crate::{
    chunk::MAX_CHUNK_BYTES,
    close::{CloseCode, LinkError, StreamError},
    dial::refused_certificate,
};
use congestion::SteadyConfig;
use converge_proto::{
    rendezvous::{RefusalCode, handshake::EXPORTER_LABEL, messages::Line},
    version::ProtocolVersion,
};
use quinn::{
    AckFrequencyConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Side,
    TokioRuntime, TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};
use rustls::pki_types::CertificateDer;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How often an idle link says that it is alive: below the shortest common idle cut of NATs (30 s for UDP).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// After this long without a word the peer is gone: three keepalives.
const MAX_IDLE: Duration = Duration::from_secs(45);
/// What one stream may have on its way to us before it is read. Over a path with 100 ms round-trip time this is
/// 40 MB/s; it is also what a stalled reader costs in memory, per stream.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What all streams of a connection to a relay may have on their way together, before any of them is a session: first
/// frames, and what comes right behind them.
const FIRST_WINDOW_BYTES: u32 = 256 * 1024;
/// What a connection may have sent and not yet acknowledged over all its streams, until it has more sessions than fill it.
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Streams that a relay may open to an agent at once: its sessions, and some that are closing.
pub const MAX_STREAMS_FROM_RELAY: u32 = 1024;
/// Streams that an agent or a client may open to a relay at once on one link. An agent needs one, a client one per
/// session; with the window of a stream this is what a stranger can make a relay hold.
pub const MAX_STREAMS_TO_RELAY: u32 = 32;
/// Of those, before it is known whose link it is. quinn makes room for each from the start, an agent needs no more, and a
/// client gets the rest with the answer to its first frame.
pub const FIRST_STREAMS: u32 = 4;
/// Beyond an Ethernet's 1500 bytes, for loopback and networks with jumbo frames. Ten segments of it are one
/// datagram batch, which must stay below 64 KiB.
pub const MTU_UPPER_BOUND: u16 = 6000;
/// What a probe looks for instead: what an Ethernet lets through with room for common tunnels. It finds out in a few round
/// trips, where the search from above takes seconds.
pub(crate) const PROBE_MTU_UPPER_BOUND: u16 = 1452;
/// How often it is looked whether a goodbye has left; nothing tells.
const CLOSE_POLL: Duration = Duration::from_millis(1);
/// Packets for which there is one acknowledgement.
const ACK_THRESHOLD: u32 = 10;
/// How long the peer may hold an acknowledgement back. Shorter than by default (RFC 9000 section 18.2 has 25 ms), because what
/// is held back looks like a queue, and a lost key is sent again that much later.
const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// Packets out of order for which an acknowledgement comes at once, as by RFC 9000, section 13.2.1: where one is missing, its
/// sender learns of it.
const REORDERING_THRESHOLD: VarInt = VarInt::from_u32(1);

fn transport_config(max_streams: u32, mtu_upper_bound: u16) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        // Not limited per connection: a stalled stream would take its share for ever and stop the others.
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .max_idle_timeout(IdleTimeout::try_from(MAX_IDLE).ok());
    set_pace(&mut config);
    find_mtu(&mut config, mtu_upper_bound);
    config
}

/// How fast a connection of ours sends, and how often it acknowledges.
pub fn set_pace(config: &mut TransportConfig) {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD))
        .max_ack_delay(Some(MAX_ACK_DELAY))
        .reordering_threshold(REORDERING_THRESHOLD);
    config.ack_frequency_config(Some(acks)).congestion_controller_factory(Arc::new(SteadyConfig));
}

/// How large a connection's packets may become (RFC 8899), in bytes. The peer has to [take them](taking_large_packets).
pub fn find_mtu(config: &mut TransportConfig, upper_bound: u16) {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(upper_bound);
    config.mtu_discovery_config(Some(mtu));
}

/// An endpoint that takes packets of [`MTU_UPPER_BOUND`]. By itself it says that an Ethernet's are the largest, and no peer
/// looks for more.
///
/// # Errors
/// None that can happen: the bound is one that QUIC allows.
pub fn taking_large_packets(mut config: EndpointConfig) -> io::Result<EndpointConfig> {
    config.max_udp_payload_size(MTU_UPPER_BOUND).map_err(io::Error::other)?;
    Ok(config)
}

fn alpn() -> Vec<&'static [u8]> {
    ProtocolVersion::ALL.iter().rev().map(|version| version.alpn()).collect()
}

/// An endpoint that only dials, of the family of `remote`.
///
/// # Errors
/// When there is no socket to be had.
pub fn dialing_endpoint(remote: SocketAddr) -> io::Result<Endpoint> {
    let config = taking_large_packets(EndpointConfig::default())?;
    Endpoint::new(config, None, bind(any_address(remote))?, Arc::new(TokioRuntime))
}

/// The configuration of the dialing end.
///
/// # Errors
/// When TLS has no cipher that QUIC can start with.
pub fn client_config(tls: rustls::ClientConfig) -> io::Result<quinn::ClientConfig> {
    dialing_config(tls, MTU_UPPER_BOUND)
}

/// The configuration of a dialing end that only wants to know what gets through.
pub(crate) fn probing_config(tls: rustls::ClientConfig) -> io::Result<quinn::ClientConfig> {
    dialing_config(tls, PROBE_MTU_UPPER_BOUND)
}

fn dialing_config(tls: rustls::ClientConfig, mtu_upper_bound: u16) -> io::Result<quinn::ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(MAX_STREAMS_FROM_RELAY, mtu_upper_bound)));
    Ok(config)
}

/// The ALPN protocols the dialing end asks for.
pub(crate) fn client_alpn() -> Vec<&'static [u8]> {
    alpn()
}

/// A new socket for an endpoint that has dialed.
pub(crate) fn socket_like(endpoint: &Endpoint) -> io::Result<UdpSocket> {
    bind(any_address(endpoint.local_addr()?))
}

/// The address from which this machine speaks to a peer, by its routes as they are now. Nothing is sent.
pub(crate) fn source_address(peer: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(any_address(peer))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

pub(crate) fn any_address(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The room of a connection for what its sessions have under way: that of a stream, in each direction, for each it has had at
/// the same time. It does not shrink again, because what a peer was allowed it may still send.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<Occupancy>);

#[derive(Debug, Default)]
struct Occupancy {
    sessions: u32,
    most: u32,
}

impl Rooms {
    /// One more session. A stalled one takes its own room and not that of the others: in the window for what is sent quinn
    /// gives way to whoever was stopped last.
    pub(crate) fn enter(&self, connection: &quinn::Connection) {
        let mut occupancy = self.occupancy();
        occupancy.sessions += 1;
        if occupancy.sessions <= occupancy.most {
            return;
        }
        occupancy.most = occupancy.sessions;
        let sessions = u64::from(occupancy.most);
        // Of the chunk that is acknowledged in part all counts.
        let sent = sessions * (u64::from(STREAM_WINDOW_BYTES) + MAX_CHUNK_BYTES as u64);
        connection.set_send_window(sent.max(SEND_WINDOW_BYTES));
        // The end that has dialed does not limit what its relay sends it over all streams.
        if connection.side() == Side::Server {
            let received = sessions * u64::from(STREAM_WINDOW_BYTES) + u64::from(FIRST_WINDOW_BYTES);
            connection.set_receive_window(VarInt::from_u64(received).unwrap_or(VarInt::MAX));
        }
    }

    pub(crate) fn leave(&self) {
        self.occupancy().sessions -= 1;
    }

    fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 32 bytes that only the two ends of this connection know.
pub(crate) fn exporter(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"").ok().map(|()| exported)
}

/// The certificates that the peer has shown, its own first.
pub fn peer_chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity()?.downcast().ok().map(|chain| *chain)
}

/// Waits until the end of a connection that was closed here has been said, which quinn does as soon as its task runs.
pub(crate) async fn close_sent(connection: &quinn::Connection) {
    while connection.stats().frame_tx.connection_close == 0 {
        tokio::time::sleep(CLOSE_POLL).await;
    }
}

/// Why a connection is no more, in our words.
pub(crate) fn link_error(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::ApplicationClosed(close) => LinkError::ClosedByPeer {
            code: CloseCode(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)),
            reason: Line::new(String::from_utf8_lossy(&close.reason)),
        },
        ConnectionError::LocallyClosed => LinkError::ClosedHere,
        ConnectionError::TimedOut => LinkError::Silent,
        ConnectionError::Reset => LinkError::Restarted,
        // The relay looks at our certificate when the handshake is over for us.
        ConnectionError::ConnectionClosed(ref close) => LinkError::Broken(match refusal_of(close) {
            Some(why) => format!(
                "the relay does not take the certificate shown to it: {why}; check the file of --client-cert"
            ),
            None => error.to_string(),
        }),
        other => LinkError::Broken(other.to_string()),
    }
}

/// A TLS alert about our certificate, as a QUIC error code (RFC 9001 section 4.8).
fn refusal_of(close: &quinn::ConnectionClose) -> Option<&'static str> {
    const CRYPTO_ERROR: u64 = 0x100;
    let alert = u64::from(close.error_code).checked_sub(CRYPTO_ERROR)?;
    refused_certificate(u8::try_from(alert).ok()?.into())
}

fn refusal(code: VarInt) -> StreamError {
    StreamError::Reset(RefusalCode(u32::try_from(code.into_inner()).unwrap_or(u32::MAX)))
}

pub(crate) fn read_error(error: quinn::ReadError) -> StreamError {
    match error {
        quinn::ReadError::Reset(code) => refusal(code),
        quinn::ReadError::ConnectionLost(error) => link_error(error).into(),
        other => StreamError::broken(&other),
    }
}

pub(crate) fn write_error(error: quinn::WriteError) -> StreamError {
    match error {
        quinn::WriteError::Stopped(code) => refusal(code),
        quinn::WriteError::ConnectionLost(error) => link_error(error).into(),
        other => StreamError::broken(&other),
    }
}

/// Whether the handshake failed because the two sides have no protocol version in common: TLS alert 120,
/// `no_application_protocol`, as a QUIC crypto error (RFC 9001 section 4.8).
pub(crate) fn is_version_mismatch(error: &ConnectionError) -> bool {
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    match error {
        ConnectionError::TransportError(error) => u64::from(error.code) == NO_APPLICATION_PROTOCOL,
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code) == NO_APPLICATION_PROTOCOL,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        MTU_UPPER_BOUND, STREAM_WINDOW_BYTES, client_alpn, client_config, dialing_endpoint, listening::listen,
    };
    use crate::Link;
    use bytes::Bytes;
    use converge_certs::{Identity, Trust, TrustConfig};
    use quinn::{Connection, Endpoint};
    use std::{net::SocketAddr, sync::mpsc, time::Duration};
    use tokio::runtime;

    /// For what takes milliseconds, or for ever.
    const GUARD: Duration = Duration::from_mins(1);

    fn listener() -> (Endpoint, SocketAddr) {
        converge_certs::install_provider();
        let files = tempfile::tempdir().unwrap();
        let identity = Identity::self_signed(files.path(), &["localhost".to_owned()]).unwrap();
        let listener = listen(([127, 0, 0, 1], 0).into(), &identity, 1).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn accept(listener: &Endpoint) -> Connection {
        listener.accept().await.unwrap().await.unwrap()
    }

    async fn dial(address: SocketAddr) -> Connection {
        let tls = TrustConfig::new(Trust::Insecure).unwrap().client_config(&client_alpn()).unwrap();
        let dialer = dialing_endpoint(address).unwrap();
        dialer.connect_with(client_config(tls).unwrap(), address, "localhost").unwrap().await.unwrap()
    }

    /// Both sides: each sends what the other says that it takes.
    #[tokio::test]
    async fn packets_become_large_where_the_path_lets_them() {
        let (listener, address) = listener();
        let (near, far) = tokio::join!(dial(address), accept(&listener));
        let grown = async {
            // Nothing tells of it.
            while [&near, &far].iter().any(|one| one.stats().path.current_mtu < MTU_UPPER_BOUND) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(GUARD, grown).await;
        assert!(in_time.is_ok(), "{:?} {:?}", near.stats().path, far.stats().path);
    }

    #[tokio::test]
    async fn sessions_that_are_stuck_leave_room_for_more() {
        let (listener, address) = listener();
        let peer = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dialing = peer.spawn(dial(address));
        let link = Link::quic(accept(&listener).await, None);
        let _connection = dialing.await.unwrap();
        // From now on the peer acknowledges nothing.
        let (wake_up, sleeping) = mpsc::channel::<()>();
        peer.spawn(async move { sleeping.recv() });
        let window = Bytes::from(vec![0; STREAM_WINDOW_BYTES as usize]);
        let mut sessions = Vec::new();
        for number in 1..=10 {
            let room = link.room();
            let mut stream = link.open_stream().await.unwrap();
            let written = tokio::time::timeout(GUARD, stream.send.write_chunk(window.clone())).await;
            assert!(matches!(written, Ok(Ok(()))), "session {number} of those before: {written:?}");
            sessions.push((room, stream));
        }
        drop(wake_up);
        peer.shutdown_background();
    }
}

//! TCP, and TLS on it, to a relay or a proxy: what a WebSocket runs on.

use super::{Cause, RelayMemory, race};
use crate::websocket::BoxedIo;
use converge_certs::TrustConfig;
use converge_proto::{RelayUrl, rendezvous::handshake::EXPORTER_LABEL};
use rustls::{AlertDescription, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The kernel asks a silent peer after this long, then every [`PROBE_INTERVAL`], and gives up after
/// [`PROBES`] questions. A peer that is only slow answers, however full its window is.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 5;

/// Settings of every TCP connection, at both ends.
///
/// # Errors
/// When the system refuses one; the connection works without.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// A connection to one of these addresses, whichever is there first.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Cause> {
    let connecting = race::addresses(addresses, |address| async move {
        let stream = TcpStream::connect(address).await.map_err(Cause::Io)?;
        tune(&stream)?;
        Ok(stream)
    });
    connecting.await.map_err(Cause::most_telling)
}

/// The same to a relay, of whose addresses those that fail are remembered.
pub(super) async fn connect_to_relay(
    addresses: &[SocketAddr],
    memory: &RelayMemory,
) -> Result<TcpStream, Cause> {
    let connecting = race::addresses(addresses, |address| async move {
        let connected = connect(&[address]).await;
        connected.inspect_err(|_| memory.leave_address(address))
    });
    connecting.await.map_err(Cause::most_telling)
}

/// TLS with the relay, if its URL has it, on a connection that leads there; with 32 bytes of its exporter.
pub(super) async fn secure(
    relay: &RelayUrl,
    io: BoxedIo,
    trust: &TrustConfig,
) -> Result<(BoxedIo, Option<[u8; 32]>), Cause> {
    if !relay.has_tls() {
        return Ok((io, None));
    }
    let config = trust.client_config(&[b"http/1.1"]).map_err(|error| Cause::other(&error))?;
    let stream = tls(io, &relay.host(), config).await.map_err(Cause::Other)?;
    let exporter = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok();
    Ok((Box::new(stream), exporter))
}

/// TLS with a host; what goes wrong, in words.
pub(super) async fn tls(
    io: BoxedIo,
    host: &str,
    config: rustls::ClientConfig,
) -> Result<TlsStream<BoxedIo>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, io).await.map_err(|error| in_words(&error))
}

fn in_words(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
        Some(
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
        ) => "the server, or a proxy that opens TLS, does not speak TLS 1.3".to_owned(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection ended in the middle of the TLS handshake".to_owned()
        }
        _ => error.to_string(),
    }
}

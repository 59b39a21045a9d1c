//! TCP, and TLS on it, to a relay: what a WebSocket runs on.

use super::Cause;
use crate::websocket::BoxedIo;
use converge_certs::TrustConfig;
use converge_proto::{RelayUrl, rendezvous::handshake::EXPORTER_LABEL};
use futures_util::future::select_ok;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    #[cfg(unix)]
    let keepalive = keepalive.with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// A connection to the relay, with 32 bytes of its TLS exporter when it has TLS.
pub(super) async fn connect(
    relay: &RelayUrl,
    addresses: &[SocketAddr],
    trust: &TrustConfig,
) -> Result<(BoxedIo, Option<[u8; 32]>), Cause> {
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    let (stream, _) = select_ok(attempts).await?;
    tune(&stream)?;
    if !relay.has_tls() {
        return Ok((Box::new(stream), None));
    }
    let config = trust.client_config(&[b"http/1.1"]).map_err(|error| Cause::Other(error.to_string()))?;
    let name = ServerName::try_from(relay.host()).map_err(|error| Cause::Other(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let exporter = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok();
    Ok((Box::new(stream), exporter))
}

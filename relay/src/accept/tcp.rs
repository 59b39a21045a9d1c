//! TCP connections: TLS or cleartext, then HTTP.

use super::{ACCEPT_PAUSE, proxy_protocol, refusal, request};
use crate::{
    http,
    limits::{Refusal, Stay},
    metrics::Secured,
    peer::Peer,
    shared::Shared,
};
use axum::Router;
use converge_certs::ACME_TLS_ALPN;
use converge_proto::rendezvous::handshake::EXPORTER_LABEL;
use converge_transport::{Carrier, dial::tcp::tune};
use hyper::server::conn::{http1, http2};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Instant};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// The ALPN protocols of HTTPS.
pub(crate) const HTTPS_ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
/// Requests at once on one HTTP/2 connection. Pages need few.
const MAX_HTTP2_STREAMS: u32 = 16;

/// Accepts until the relay drains. Without `tls` the listener speaks cleartext.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
) {
    loop {
        let accepted = tokio::select! {
            biased; // The accept loop always loses against the end.
            () = shared.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer::new(address, Carrier::WebSocket);
                let (task_shared, tls) = (shared.clone(), tls.clone());
                match shared.gate.connect(peer.address.ip()) {
                    Ok(stay) => {
                        let router = router.clone();
                        let connection = Accepted { shared: task_shared, router, peer, stay };
                        shared.spawn(async move { connection.serve(stream, tls).await });
                    }
                    Err(refused) => shared.spawn(async move {
                        refusal::explain(&task_shared.gate, stream, tls, refused).await;
                    }),
                }
            }
            Err(error) => {
                warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that was accepted, and what it is served with.
struct Accepted {
    shared: Arc<Shared>,
    router: Router,
    peer: Peer,
    /// Counts it.
    stay: Stay,
}

impl Accepted {
    async fn serve(mut self, mut stream: TcpStream, tls: Option<TlsAcceptor>) {
        if let Err(error) = tune(&stream) {
            debug!(peer = %self.peer.address, %error, "cannot set TCP options");
        }
        if self.shared.gate.limits().proxies.are_at(self.peer.address.ip()) {
            match self.read_proxy_header(&mut stream).await {
                Ok(()) => {}
                Err(Refusal::NoProxyHeader) => return,
                Err(refused) => return refusal::explain(&self.shared.gate, stream, tls, refused).await,
            }
        }
        let peer = self.peer.address;
        let Some(tls) = tls else { return self.serve_http1(stream, false, None).await };
        let began = Instant::now();
        let handshake = tokio::time::timeout(self.shared.first_word_timeout, tls.accept(stream));
        let Some(accepted) = self.shared.ending.clone().run_until_cancelled_owned(handshake).await else {
            return;
        };
        match accepted {
            Ok(Ok(stream)) => {
                self.shared.metrics.handshake(Secured::Tls, began.elapsed());
                let session = stream.get_ref().1;
                self.peer.certificate = self.shared.tls.peer_certificate(session.peer_certificates());
                // The ACME server has seen what it wanted to see (RFC 8737 section 3).
                if session.alpn_protocol() == Some(ACME_TLS_ALPN) {
                    return;
                }
                if session.alpn_protocol() == Some(b"h2") {
                    return self.serve_http2(stream).await;
                }
                let exporter = session.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok();
                self.serve_http1(stream, true, exporter).await;
            }
            Ok(Err(error)) => {
                self.shared.metrics.handshake_failed(Secured::Tls, false);
                debug!(%peer, %error, "TLS handshake failed");
            }
            Err(_) => {
                self.shared.metrics.handshake_failed(Secured::Tls, true);
                self.shared.gate.refused(Refusal::Silent, peer.ip());
            }
        }
    }

    /// A trusted proxy says whose connection this is, and then it is that one's.
    async fn read_proxy_header(&mut self, stream: &mut TcpStream) -> Result<(), Refusal> {
        let gate = &self.shared.gate;
        let proxy = self.peer.address;
        let reading = proxy_protocol::read(stream, gate.limits().proxies.protocol);
        let reading = tokio::time::timeout(self.shared.first_word_timeout, reading);
        let Some(read) = self.shared.ending.run_until_cancelled(reading).await else {
            return Err(Refusal::NoProxyHeader);
        };
        match read {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(address))) => {
                self.peer =
                    Peer { address: Peer::new(address, self.peer.carrier).address, ..self.peer.clone() };
                gate.connect_for(&mut self.stay, self.peer.address.ip())
            }
            Ok(Err(error)) => {
                debug!(%proxy, %error, "a trusted proxy's connection is closed");
                Err(gate.refused(Refusal::NoProxyHeader, proxy.ip()))
            }
            Err(_) => Err(gate.refused(Refusal::Silent, proxy.ip())),
        }
    }

    /// Pages and WebSockets.
    async fn serve_http1<S>(self, stream: S, over_tls: bool, exporter: Option<[u8; 32]>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { shared, router, peer, stay } = self;
        let connection = http::Connection::new(peer, over_tls, exporter, stay);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.first_word_timeout)
            .max_buf_size(header_bytes(&shared))
            .serve_connection(TokioIo::new(stream), http_service(shared.clone(), router, connection))
            .with_upgrades();
        tokio::pin!(serving);
        // What fails here is the peer's HTTP; hyper has answered it where it could.
        let _ = tokio::select! {
            result = &mut serving => result,
            () = shared.draining.cancelled() => {
                serving.as_mut().graceful_shutdown();
                // A peer that has not said anything yet is not in the middle of anything.
                shared.ending.run_until_cancelled(serving).await.unwrap_or(Ok(()))
            }
        };
    }

    /// Pages only: no peer of ours opens WebSockets over HTTP/2.
    async fn serve_http2<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { shared, router, peer, stay } = self;
        let connection = http::Connection::new(peer, true, None, stay);
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(shared.first_word_timeout)
            .keep_alive_timeout(shared.first_word_timeout)
            .max_header_list_size(shared.gate.limits().header_bytes)
            .max_concurrent_streams(MAX_HTTP2_STREAMS)
            .serve_connection(TokioIo::new(stream), http_service(shared.clone(), router, connection));
        tokio::pin!(serving);
        // As above.
        let _ = tokio::select! {
            result = &mut serving => result,
            () = shared.draining.cancelled() => {
                serving.as_mut().graceful_shutdown();
                // A peer that has not said anything yet is not in the middle of anything.
                shared.ending.run_until_cancelled(serving).await.unwrap_or(Ok(()))
            }
        };
    }
}

fn header_bytes(shared: &Shared) -> usize {
    // What hyper takes at least; less would be a panic.
    (shared.gate.limits().header_bytes as usize).max(8 * 1024)
}

/// The router, with what the handlers may ask about the connection.
fn http_service(
    shared: Arc<Shared>,
    router: Router,
    connection: http::Connection,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ 'static {
    service_fn(move |asked| request::serve(shared.clone(), router.clone(), connection.clone(), asked))
}

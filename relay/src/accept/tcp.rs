//! TCP connections: TLS or cleartext, then HTTP.

use crate::{http, limits, peer::Peer, shared::Shared};
use axum::Router;
use converge_certs::ACME_TLS_ALPN;
use converge_proto::rendezvous::handshake::EXPORTER_LABEL;
use converge_transport::{Carrier, dial::tcp::tune};
use hyper::server::conn::{http1, http2};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::{debug, warn};

/// The ALPN protocols of HTTPS.
pub(crate) const HTTPS_ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The header list of one HTTP/2 request, and requests at once on one connection. Pages need little.
const MAX_HTTP2_HEADER_BYTES: u32 = 16 * 1024;
const MAX_HTTP2_STREAMS: u32 = 16;
/// After an accept that failed for want of descriptors or memory: time for some to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the relay drains. Without `tls` the listener speaks cleartext.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let router = http::router(shared.clone());
    let connections = Arc::new(Semaphore::new(limits::MAX_TCP_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased; // The accept loop always loses against the end.
            () = shared.draining.cancelled() => return,
            accepted = async {
                let permit = connections.clone().acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(permit), Ok((stream, address))) => {
                let (router, tls) = (router.clone(), tls.clone());
                let connection = Accepted {
                    shared: shared.clone(),
                    router,
                    peer: Peer::new(address, Carrier::WebSocket),
                    permit,
                };
                shared.spawn(async move { connection.serve(stream, tls).await });
            }
            (_, Err(error)) => {
                warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => return,
        }
    }
}

/// A connection that was accepted, and what it is served with.
struct Accepted {
    shared: Arc<Shared>,
    router: Router,
    peer: Peer,
    permit: OwnedSemaphorePermit,
}

impl Accepted {
    async fn serve(mut self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let peer = self.peer.address;
        if let Err(error) = tune(&stream) {
            debug!(%peer, %error, "cannot set TCP options");
        }
        let Some(tls) = tls else { return self.serve_http1(stream, false, None).await };
        let handshake = tokio::time::timeout(self.shared.first_word_timeout, tls.accept(stream));
        let Some(accepted) = self.shared.ending.clone().run_until_cancelled_owned(handshake).await else {
            return;
        };
        match accepted {
            Ok(Ok(stream)) => {
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
            Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => debug!(%peer, "TLS handshake not finished in time"),
        }
    }

    /// Pages and WebSockets.
    async fn serve_http1<S>(self, stream: S, over_tls: bool, exporter: Option<[u8; 32]>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { shared, router, peer, permit } = self;
        let connection = http::Connection::new(peer, over_tls, exporter, permit);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.first_word_timeout)
            .max_buf_size(limits::MAX_HTTP_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), http_service(router, connection))
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
        let Self { shared, router, peer, permit } = self;
        let connection = http::Connection::new(peer, true, None, permit);
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(shared.first_word_timeout)
            .keep_alive_timeout(shared.first_word_timeout)
            .max_header_list_size(MAX_HTTP2_HEADER_BYTES)
            .max_concurrent_streams(MAX_HTTP2_STREAMS)
            .serve_connection(TokioIo::new(stream), http_service(router, connection));
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

/// The router, with what the handlers may ask about the connection.
fn http_service(
    router: Router,
    connection: http::Connection,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ 'static {
    service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    })
}

//! What the relay serves over HTTP: pages, the API, health, and the opening of WebSockets.

mod acme;
pub(crate) mod api;
mod assets;
mod downloads;
mod headers;
mod metrics;
pub(crate) mod pages;
mod websocket;

use crate::{limits::Stay, peer::Peer, shared::Shared};
use axum::{Router, http::StatusCode, middleware, routing::get};
use std::sync::Arc;

/// What handlers may ask about the connection that a request came on.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    /// 32 bytes of the TLS exporter, when TLS ends here.
    pub(crate) exporter: Option<[u8; 32]>,
    /// Whether TLS ends here.
    pub(crate) over_tls: bool,
    /// Held as long as anything of the connection is left.
    _stay: Arc<Stay>,
    /// The same for a request that a proxy makes for somebody.
    _forwarded: Option<Arc<Stay>>,
}

impl Connection {
    pub(crate) fn new(peer: Peer, over_tls: bool, exporter: Option<[u8; 32]>, stay: Stay) -> Self {
        Self { peer, exporter, over_tls, _stay: Arc::new(stay), _forwarded: None }
    }

    /// A request that a trusted proxy makes for `peer`.
    pub(crate) fn on_behalf_of(self, peer: Peer, stay: Stay) -> Self {
        Self { peer, _forwarded: Some(Arc::new(stay)), ..self }
    }
}

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(pages::about))
        .route("/usage", get(pages::usage))
        .route("/sessions", get(pages::sessions))
        .route("/sessions/live", get(pages::live))
        .route("/assets/{version}/{name}", get(assets::serve))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::for_token))
        .nest("/api/v1", api::router(&shared))
        .route("/agent", get(websocket::agent))
        .route("/.well-known/acme-challenge/{token}", get(acme::proof))
        .route("/client/{address}", get(websocket::client))
        .route("/downloads", get(pages::downloads))
        .route("/downloads/{name}", get(downloads::file))
        .route("/install.sh", get(downloads::shell_script))
        .route("/install.ps1", get(downloads::powershell_script))
        .fallback(pages::nowhere)
        .layer(middleware::from_fn_with_state(shared.clone(), pages::for_browsers))
        .layer(middleware::from_fn_with_state(shared.clone(), headers::add))
        .with_state(shared)
}

/// What other relays of the cluster may ask. None of it is reached from elsewhere.
pub(crate) fn router_for_relays(shared: Arc<Shared>) -> Router {
    Router::new()
        .nest("/api/v1", api::router(&shared))
        .route("/rows", get(pages::rows))
        .fallback(|| async { (StatusCode::NOT_FOUND, "this relay does not know what that is\n") })
        .with_state(shared)
}

/// What is on the listener that is for metrics alone.
pub(crate) fn metrics_router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::for_anybody))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is only /metrics here\n") })
        .with_state(shared)
}

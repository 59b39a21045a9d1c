//! `/metrics`, for Prometheus.

use super::{Connection, api};
use crate::{
    access::{Credentials, Scope},
    metrics::{self, TEXT_FORMAT},
    shared::Shared,
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// On the listener that the operator has opened for it.
pub(super) async fn for_anybody(State(shared): State<Arc<Shared>>) -> Response {
    text(&shared)
}

/// Where everybody else is, too: for who has a token, and on a relay that only its own machine can reach for programs there.
pub(super) async fn for_token(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if shared.metrics.has_own_listener() {
        return (StatusCode::NOT_FOUND, "metrics have an address of their own on this relay\n")
            .into_response();
    }
    let peer = connection.peer.address.ip();
    if api::is_for_programs_here(&shared, &uri, &headers, peer) {
        return text(&shared);
    }
    match shared.access.check(Scope::Metrics, &Credentials::of_headers(&headers), peer).await {
        Ok(_) => text(&shared),
        Err(refusal) => refusal.into_response(),
    }
}

fn text(shared: &Shared) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT), (header::CACHE_CONTROL, "no-store")], metrics::text(shared))
        .into_response()
}

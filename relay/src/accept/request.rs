//! One HTTP request, before the router sees it: for whom it is, and the limits on its body and its time.

use super::{forwarded, refusal};
use crate::{
    http::Connection,
    limits::{self, Refusal},
    peer::Peer,
    shared::Shared,
};
use axum::{Router, body::Body, response::Response};
use http_body_util::Limited;
use hyper::{Request, body::Incoming};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tower::ServiceExt;

/// Answers a request that came on `connection`, and counts the answer.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    router: Router,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    answer(&shared, router, connection, request)
        .await
        .inspect(|response| shared.metrics.answered(response.status()))
}

async fn answer(
    shared: &Shared,
    router: Router,
    connection: Connection,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let connection = match behind_proxy(shared, connection, &request) {
        Ok(connection) => connection,
        Err(refused) => return Ok(refusal::response(refused)),
    };
    let peer = connection.peer.address.ip();
    let most = shared.gate.limits().body_bytes as usize;
    let most = if most == 0 { usize::MAX } else { most };
    if announced_length(&request) > most as u64 {
        return Ok(refusal::response(shared.gate.refused(Refusal::Body, peer)));
    }
    request.extensions_mut().insert(connection);
    let request = request.map(|body| Body::new(Limited::new(body, most)));
    match tokio::time::timeout(limits::REQUEST_TIMEOUT, router.oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok(refusal::response(shared.gate.refused(Refusal::SlowRequest, peer))),
    }
}

/// The connection as that of the peer for whom a trusted proxy speaks, where it says so.
fn behind_proxy(
    shared: &Shared,
    connection: Connection,
    request: &Request<Incoming>,
) -> Result<Connection, Refusal> {
    let limits = shared.gate.limits();
    let proxies = &limits.proxies;
    if !proxies.are_at(connection.peer.address.ip()) {
        return Ok(connection);
    }
    let Some(address) = forwarded::peer(request.headers(), proxies) else { return Ok(connection) };
    let stay = shared.gate.request_for(address)?;
    // Its port is known to the proxy only.
    let peer = Peer { address: SocketAddr::new(address, 0), ..connection.peer.clone() };
    Ok(connection.on_behalf_of(peer, stay))
}

fn announced_length(request: &Request<Incoming>) -> u64 {
    let length = request.headers().get(http::header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

//! QUIC connections.

use crate::{limits, link, peer::Peer, shared::Shared};
use converge_transport::{Carrier, Link};
use quinn::{Endpoint, Incoming};
use std::sync::Arc;
use tracing::debug;

/// Accepts until the relay drains.
pub(crate) async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    loop {
        let incoming = tokio::select! {
            biased; // The accept loop always loses against the end.
            () = shared.draining.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if endpoint.open_connections() >= limits::MAX_QUIC_CONNECTIONS {
            incoming.refuse();
            continue;
        }
        let task_shared = shared.clone();
        shared.spawn(async move { serve(&task_shared, incoming).await });
    }
}

/// What becomes of newcomers while the relay stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newcomers {
    /// They hear so at once, and look elsewhere.
    Refuse,
    /// They hear nothing, and knock again: the socket stays, and the next relay answers.
    LeaveForTheNext,
}

/// Takes no newcomer any more until the relay ends.
pub(crate) async fn turn_away(shared: Arc<Shared>, endpoint: Endpoint, newcomers: Newcomers) {
    let turning_away = async {
        while let Some(incoming) = endpoint.accept().await {
            match newcomers {
                Newcomers::Refuse => incoming.refuse(),
                Newcomers::LeaveForTheNext => incoming.ignore(),
            }
        }
    };
    shared.ending.run_until_cancelled(turning_away).await;
}

async fn serve(shared: &Arc<Shared>, incoming: Incoming) {
    let mut peer = Peer::new(incoming.remote_address(), Carrier::Quic);
    let handshake = tokio::time::timeout(shared.first_word_timeout, incoming);
    let Some(connected) = shared.ending.run_until_cancelled(handshake).await else { return };
    match connected {
        Ok(Ok(connection)) => {
            let chain = converge_transport::quic::peer_chain(&connection);
            peer.certificate = shared.tls.peer_certificate(chain.as_deref());
            link::serve(shared, Link::quic(connection, None), peer).await;
        }
        Ok(Err(error)) => debug!(peer = %peer.address, %error, "QUIC handshake failed"),
        Err(_) => debug!(peer = %peer.address, "QUIC handshake not finished in time"),
    }
}

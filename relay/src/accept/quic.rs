//! QUIC connections.

use crate::{
    limits::{Handshake, QuicVerdict, Refusal, Stay},
    link,
    metrics::Secured,
    peer::Peer,
    shared::Shared,
};
use converge_transport::{Carrier, CloseCode, Link};
use quinn::{Connecting, Endpoint};
use std::{sync::Arc, time::Instant};
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
        let peer = Peer::new(incoming.remote_address(), Carrier::Quic);
        let handshake = match shared.gate.quic(peer.address.ip(), incoming.remote_address_validated()) {
            QuicVerdict::Accept(handshake) => handshake,
            QuicVerdict::Retry => {
                // Cannot fail: only who has answered one already may not be asked again, and that is proof.
                let _ = incoming.retry();
                continue;
            }
            QuicVerdict::Refuse => {
                incoming.refuse();
                continue;
            }
            QuicVerdict::Ignore => {
                incoming.ignore();
                continue;
            }
        };
        match incoming.accept() {
            Ok(connecting) => {
                let task_shared = shared.clone();
                shared.spawn(async move { serve(&task_shared, connecting, handshake, peer).await });
            }
            Err(error) => {
                shared.metrics.handshake_failed(Secured::Quic, false);
                debug!(peer = %peer.address, %error, "QUIC handshake failed");
            }
        }
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

async fn serve(shared: &Arc<Shared>, connecting: Connecting, handshake: Handshake, peer: Peer) {
    let connected = Box::pin(connected(shared, connecting, handshake, peer)).await;
    if let Some((link, peer, _stay)) = connected {
        link::serve(shared, link, peer).await;
    }
}

/// The link, once its handshake is over; nothing where there is none.
async fn connected(
    shared: &Shared,
    connecting: Connecting,
    handshake: Handshake,
    mut peer: Peer,
) -> Option<(Link, Peer, Stay)> {
    let began = Instant::now();
    let connecting = tokio::time::timeout(shared.first_word_timeout, connecting);
    match shared.ending.run_until_cancelled(connecting).await? {
        Ok(Ok(connection)) => {
            shared.metrics.handshake(Secured::Quic, began.elapsed());
            let chain = converge_transport::quic::peer_chain(&connection);
            peer.certificate = shared.tls.peer_certificate(chain.as_deref());
            let link = Link::quic(connection, None);
            match shared.gate.connected(handshake, peer.address.ip()) {
                Ok(stay) => return Some((link, peer, stay)),
                Err(refusal) => link.finish(CloseCode::LIMIT, refusal.words()).await,
            }
        }
        Ok(Err(error)) => {
            shared.metrics.handshake_failed(Secured::Quic, false);
            debug!(peer = %peer.address, %error, "QUIC handshake failed");
        }
        Err(_) => {
            shared.metrics.handshake_failed(Secured::Quic, true);
            shared.gate.refused(Refusal::Silent, peer.address.ip());
        }
    }
    None
}

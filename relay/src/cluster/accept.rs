//! Links and streams that other relays open.

use super::{Cluster, answer, packets};
use crate::{
    client_stream::{self, Origin},
    first_frame, http,
    peer::Peer,
    shared::Shared,
};
use axum::Router;
use converge_certs::cluster::peer_number;
use converge_proto::{
    Frame, FrameType, RelayNumber, cluster::Forward, frame::FrameError, rendezvous::Message,
};
use converge_transport::{Carrier, CloseCode, Link, Stream, quic::Crossing};
use quinn::Incoming;
use std::sync::Arc;
use tracing::{debug, warn};

/// Accepts until the relay ends: also one that drains still has agents, to which others lead.
pub(crate) async fn accept(shared: Arc<Shared>, cluster: Arc<Cluster>, crossing: Crossing) {
    let services = Services { router: http::router_for_relays(shared.clone()), crossing };
    let accepting = async {
        while let Some(incoming) = cluster.endpoint().accept().await {
            let (task_shared, services) = (shared.clone(), services.clone());
            shared.spawn(async move { serve(&task_shared, incoming, services).await });
        }
    };
    shared.ending.run_until_cancelled(accepting).await;
}

/// What streams of other relays lead to, besides agents.
#[derive(Clone)]
struct Services {
    /// Answers what they ask.
    router: Router,
    /// Takes their packets.
    crossing: Crossing,
}

async fn serve(shared: &Arc<Shared>, incoming: Incoming, services: Services) {
    let address = incoming.remote_address();
    let connecting = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(shared.first_word_timeout, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return warn!(%address, %error, "somebody on the cluster's port is no relay of this cluster");
        }
        Err(_) => return debug!(%address, "nobody spoke on the cluster's port"),
    };
    // TLS has checked the certificate; this is whose it is.
    let chain = converge_transport::quic::peer_chain(&connection);
    let Some(relay) = chain.as_deref().and_then(peer_number) else {
        connection.close(CloseCode::PROTOCOL_VIOLATION.0.into(), b"the certificate names no relay");
        return warn!(%address, "a certificate of the cluster names no relay");
    };
    debug!(%relay, %address, "another relay has linked");
    let link = Link::quic(connection, None);
    let streams = async {
        while let Ok(stream) = link.accept_stream().await {
            let (task_shared, services) = (shared.clone(), services.clone());
            shared.spawn(async move { take(&task_shared, stream, relay, services).await });
        }
    };
    if shared.ending.run_until_cancelled(streams).await.is_none() {
        // The sessions say goodbye on their own streams first.
        shared.sessions.wait().await;
        link.settle().await;
        link.close(CloseCode::STOPPING, "");
    }
}

/// One stream, by what it begins with.
async fn take(shared: &Arc<Shared>, mut stream: Stream, relay: RelayNumber, services: Services) {
    let first = match first_frame::read_of_relay(shared, &mut stream).await {
        Ok(frame) => frame,
        Err(error) => return first_frame::refuse_first(stream, &error).await,
    };
    match first.frame_type {
        FrameType::FORWARD => {
            let task_shared = shared.clone();
            shared.spawn_session(async move { forwarded(&task_shared, stream, &first, relay).await });
        }
        FrameType::ASK => answer::serve(shared, services.router, stream, &first, relay).await,
        FrameType::PACKETS => {
            let taking = packets::take(&services.crossing, &mut stream, relay);
            if let Some(Err(error)) = shared.ending.run_until_cancelled(taking).await {
                debug!(%relay, %error, "another relay sends no more packets");
            }
        }
        _ => {
            let error = first_frame::unexpected(&first, "Forward, Ask or Packets");
            warn!(%relay, %error, "another relay says what this one does not understand");
            first_frame::refuse(stream, &first_frame::refusal_of(&error)).await;
        }
    }
}

/// A client's stream: who comes, and what they say.
async fn forwarded(shared: &Shared, mut stream: Stream, forward: &Frame, relay: RelayNumber) {
    let (peer, token) = match who(forward) {
        Ok(who) => who,
        Err(error) => {
            warn!(%relay, %error, "another relay says what this one does not understand");
            return first_frame::refuse(stream, &first_frame::refusal_of(&error)).await;
        }
    };
    match first_frame::read_of_relay(shared, &mut stream).await {
        Ok(frame) => {
            client_stream::serve(shared, stream, &frame, Origin::Relay(token.as_deref()), &peer).await;
        }
        Err(error) => first_frame::refuse_first(stream, &error).await,
    }
}

fn who(frame: &Frame) -> Result<(Peer, Option<String>), FrameError> {
    let forward = Forward::from_frame(frame)?;
    let address = forward.address.as_str().parse().map_err(|_| FrameError::Malformed {
        frame_type: frame.frame_type,
        detail: "the client's address is none".to_owned(),
    })?;
    let carrier = if forward.is_websocket { Carrier::WebSocket } else { Carrier::Quic };
    Ok((Peer::new(address, carrier), forward.token.map(|token| token.as_str().to_owned())))
}

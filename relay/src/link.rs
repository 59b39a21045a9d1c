//! A link with many streams, from its first frame on.

use crate::{
    agent_link,
    client_stream::{self, Origin},
    first_frame::{self, FirstFrameError},
    limits::Refusal,
    peer::Peer,
    shared::Shared,
};
use converge_proto::{Frame, FrameType};
use converge_transport::{CloseCode, Link, Stream};
use std::sync::Arc;
use tracing::debug;

/// Serves a link with many streams. Its first frame says whose it is: `Register` makes it an agent's, anything else
/// a client's.
pub(crate) async fn serve(shared: &Arc<Shared>, link: Link, peer: Peer) {
    // Here and below, what is over soon is boxed: a link that idles for hours holds only what it then needs, and a relay has
    // thousands of them.
    let Some((stream, frame)) = Box::pin(first_stream(shared, &link, &peer)).await else { return };
    if frame.frame_type == FrameType::REGISTER {
        let admitted = Box::pin(agent_link::admit(shared, &link, stream, frame, &peer)).await;
        let Some(mut admitted) = admitted else { return };
        let why = agent_link::run(shared, &link, &mut admitted).await;
        return Box::pin(agent_link::end(&link, admitted, why)).await;
    }
    link.allow_streams(shared.gate.limits().streams_per_link);
    let (task_shared, task_link, task_peer) = (shared.clone(), link.clone(), peer.clone());
    shared.spawn_session(async move {
        client_stream::serve(&task_shared, stream, &frame, Origin::Link(&task_link), &task_peer).await;
    });
    Box::pin(serve_client_link(shared, &link, &peer)).await;
}

/// The link's first stream, and what it begins with; nothing where that was no good, and the link has ended.
async fn first_stream(shared: &Shared, link: &Link, peer: &Peer) -> Option<(Stream, Frame)> {
    let accepting = tokio::time::timeout(shared.first_word_timeout, link.accept_stream());
    let mut stream = match shared.ending.run_until_cancelled(accepting).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(_))) => return None,
        Some(Err(_)) => {
            shared.gate.refused(Refusal::Silent, peer.address.ip());
            link.clone().finish(CloseCode::SILENT, "nothing was said").await;
            return None;
        }
        None => {
            link.clone().finish(CloseCode::STOPPING, "").await;
            return None;
        }
    };
    match first_frame::read(shared, &mut stream).await {
        Ok(frame) => Some((stream, frame)),
        Err(error) => {
            debug!(peer = %peer.address, %error, "link refused");
            if matches!(error, FirstFrameError::Silent) {
                shared.gate.refused(Refusal::Silent, peer.address.ip());
            }
            first_frame::refuse_first(stream, &error).await;
            link.clone().finish(error.close_code(), &error.to_string()).await;
            None
        }
    }
}

/// The further streams of a client's link, until the link ends.
async fn serve_client_link(shared: &Arc<Shared>, link: &Link, peer: &Peer) {
    loop {
        let mut stream = tokio::select! {
            () = shared.ending.cancelled() => {
                // The sessions say goodbye on their own streams first; they all end now, so this is not long.
                shared.sessions.wait().await;
                link.settle().await;
                return link.close(CloseCode::STOPPING, "");
            }
            stream = link.accept_stream() => match stream {
                Ok(stream) => stream,
                Err(end) => return debug!(peer = %peer.address, %end, "a client's link has ended"),
            },
        };
        let (task_shared, task_link, task_peer) = (shared.clone(), link.clone(), peer.clone());
        shared.spawn_session(async move {
            match first_frame::read(&task_shared, &mut stream).await {
                Ok(frame) => {
                    let from = Origin::Link(&task_link);
                    client_stream::serve(&task_shared, stream, &frame, from, &task_peer).await;
                }
                Err(error) => first_frame::refuse_first(stream, &error).await,
            }
        });
    }
}

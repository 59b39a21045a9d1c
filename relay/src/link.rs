//! A link with many streams, from its first frame on.

use crate::{
    agent_link,
    client_stream::{self, Origin},
    first_frame,
    limits::Refusal,
    peer::Peer,
    shared::Shared,
};
use converge_proto::FrameType;
use converge_transport::{CloseCode, Link};
use std::sync::Arc;
use tracing::debug;

/// Serves a link with many streams. Its first frame says whose it is: `Register` makes it an agent's, anything else
/// a client's.
pub(crate) async fn serve(shared: &Arc<Shared>, link: Link, peer: Peer) {
    let first_stream = tokio::time::timeout(shared.first_word_timeout, link.accept_stream());
    let mut stream = match shared.ending.run_until_cancelled(first_stream).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(_))) => return,
        Some(Err(_)) => {
            shared.gate.refused(Refusal::Silent, peer.address.ip());
            return link.finish(CloseCode::SILENT, "nothing was said").await;
        }
        None => return link.finish(CloseCode::STOPPING, "").await,
    };
    // Here and below, what is over soon is boxed: a link that idles for hours holds only what it then needs, and a relay has
    // thousands of them.
    match Box::pin(first_frame::read(shared, &mut stream)).await {
        Ok(frame) if frame.frame_type == FrameType::REGISTER => {
            Box::pin(agent_link::serve(shared, link, stream, frame, &peer)).await;
        }
        Ok(frame) => {
            let (task_shared, task_link, task_peer) = (shared.clone(), link.clone(), peer.clone());
            shared.spawn_session(async move {
                client_stream::serve(&task_shared, stream, &frame, Origin::Link(&task_link), &task_peer)
                    .await;
            });
            Box::pin(serve_client_link(shared, &link, &peer)).await;
        }
        Err(error) => {
            debug!(peer = %peer.address, %error, "link refused");
            Box::pin(first_frame::refuse_first(stream, &error)).await;
            link.finish(error.close_code(), &error.to_string()).await;
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
                Err(_) => return,
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

//! A link with many streams, from its first frame on.

use crate::{agent_link, client_stream, first_frame, limits, peer::Peer, shared::Shared};
use converge_proto::FrameType;
use converge_transport::{CloseCode, Link};
use std::sync::Arc;
use tracing::debug;

/// Serves a link with many streams. Its first frame says whose it is: `Register` makes it an agent's, anything else
/// a client's.
pub(crate) async fn serve(shared: &Arc<Shared>, link: Link, peer: Peer) {
    let first = async {
        let mut stream = link.accept_stream().await.ok()?;
        let frame = first_frame::read(&mut stream).await;
        Some((stream, frame))
    };
    let first = tokio::select! {
        () = shared.ending.cancelled() => return link.finish(CloseCode::STOPPING, "").await,
        first = tokio::time::timeout(limits::FIRST_WORD_TIMEOUT, first) => first,
    };
    match first {
        Ok(Some((control, Ok(frame)))) if frame.frame_type == FrameType::REGISTER => {
            agent_link::serve(shared, link, control, frame, &peer).await;
        }
        Ok(Some((stream, Ok(frame)))) => {
            let (task_shared, task_peer) = (shared.clone(), peer.clone());
            shared.tasks.spawn(shared.sessions.track_future(async move {
                client_stream::serve(&task_shared, stream, &frame, None, &task_peer).await;
            }));
            serve_client_link(shared, &link, &peer).await;
        }
        Ok(Some((stream, Err(error)))) => {
            debug!(peer = %peer.address, %error, "link refused");
            first_frame::refuse_first(stream, &error).await;
            link.finish(CloseCode::PROTOCOL_VIOLATION, &error.to_string()).await;
        }
        Ok(None) => {}
        Err(_) => {
            debug!(peer = %peer.address, "link said nothing");
            link.finish(CloseCode::SILENT, "nothing was said").await;
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
                return link.close(CloseCode::STOPPING, "");
            }
            stream = link.accept_stream() => match stream {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        let (task_shared, task_peer) = (shared.clone(), peer.clone());
        shared.tasks.spawn(shared.sessions.track_future(async move {
            match first_frame::read(&mut stream).await {
                Ok(frame) => client_stream::serve(&task_shared, stream, &frame, None, &task_peer).await,
                Err(error) => first_frame::refuse_first(stream, &error).await,
            }
        }));
    }
}

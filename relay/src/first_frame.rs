//! What a stream begins with.

use crate::limits;
use converge_proto::{
    Frame,
    frame::FrameError,
    rendezvous::{Message, RefusalCode, Refused, messages::Line},
};
use converge_transport::{Stream, StreamError};

/// Why a stream did not begin as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstFrameError {
    #[error("nothing was said for {} seconds", limits::FIRST_WORD_TIMEOUT.as_secs())]
    Silent,
    #[error("the stream ended before its first frame")]
    Ended,
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// The first frame.
pub(crate) async fn read(stream: &mut Stream) -> Result<Frame, FirstFrameError> {
    let reading = async {
        let frame = stream.recv.read_frame().await?;
        frame.ok_or(FirstFrameError::Ended)
    };
    tokio::time::timeout(limits::FIRST_WORD_TIMEOUT, reading).await.map_err(|_| FirstFrameError::Silent)?
}

/// What a frame is that cannot be a first one.
pub(crate) fn unexpected(frame: &Frame, expected: &'static str) -> FrameError {
    let frame_type = frame.frame_type;
    if frame_type.is_known() {
        FrameError::Unexpected { frame_type, expected }
    } else {
        FrameError::Unsupported { frame_type }
    }
}

/// What the peer is told of an error of its own.
pub(crate) fn refusal_of(error: &FrameError) -> Refused {
    let code = match error {
        FrameError::Unsupported { .. } => RefusalCode::UNSUPPORTED,
        _ => RefusalCode::PROTOCOL_VIOLATION,
    };
    Refused { code, text: Line::new(error.to_string()) }
}

/// Tells the peer no, and ends the stream. A peer that does not listen is not waited for.
pub(crate) async fn refuse(mut stream: Stream, refused: &Refused) {
    let telling = async {
        stream.send.write_frame(&refused.to_frame()).await?;
        stream.send.finish().await
    };
    match tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, telling).await {
        Ok(Ok(())) => {
            stream.recv.stop(refused.code);
            stream.close().await;
        }
        Ok(Err(_)) | Err(_) => stream.reset(refused.code).await,
    }
}

/// Tells a peer whose stream did not begin as it should, where there is something to tell.
pub(crate) async fn refuse_first(stream: Stream, error: &FirstFrameError) {
    let refused = match error {
        FirstFrameError::Stream(StreamError::Frame(error)) => refusal_of(error),
        FirstFrameError::Stream(StreamError::TextMessage) | FirstFrameError::Silent => {
            Refused { code: RefusalCode::PROTOCOL_VIOLATION, text: Line::new(error.to_string()) }
        }
        // Nobody is there to be told.
        FirstFrameError::Ended | FirstFrameError::Stream(_) => return,
    };
    refuse(stream, &refused).await;
}

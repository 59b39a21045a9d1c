//! What a stream begins with.

use crate::{limits, shared::Shared};
use converge_proto::{
    Frame,
    frame::FrameError,
    rendezvous::{Message, RefusalCode, Refused, messages::Line},
};
use converge_transport::{CloseCode, Stream, StreamError};
use tokio_util::sync::CancellationToken;

/// Why a stream did not begin as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstFrameError {
    #[error("nothing was said in time")]
    Silent,
    #[error("the relay is stopping")]
    Stopping,
    #[error("the stream ended before its first frame")]
    Ended,
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl FirstFrameError {
    /// What a link is closed with whose first stream did not begin as it should.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Silent => CloseCode::SILENT,
            Self::Stopping => CloseCode::STOPPING,
            Self::Ended | Self::Stream(_) => CloseCode::PROTOCOL_VIOLATION,
        }
    }
}

/// The first frame. A relay that is stopping does not wait for it.
pub(crate) async fn read(shared: &Shared, stream: &mut Stream) -> Result<Frame, FirstFrameError> {
    read_before(&shared.draining, shared, stream).await
}

/// The same of another relay, which may ask for agents as long as they are here.
pub(crate) async fn read_of_relay(shared: &Shared, stream: &mut Stream) -> Result<Frame, FirstFrameError> {
    read_before(&shared.ending, shared, stream).await
}

async fn read_before(
    stopping: &CancellationToken,
    shared: &Shared,
    stream: &mut Stream,
) -> Result<Frame, FirstFrameError> {
    let reading = async {
        let frame = stream.recv.read_frame().await?;
        frame.ok_or(FirstFrameError::Ended)
    };
    tokio::select! {
        biased; // What has been said is answered, also by a relay that is stopping.
        frame = reading => frame,
        () = stopping.cancelled() => Err(FirstFrameError::Stopping),
        () = tokio::time::sleep(shared.first_word_timeout) => Err(FirstFrameError::Silent),
    }
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
        FirstFrameError::Stopping => {
            Refused { code: RefusalCode::STOPPING, text: Line::new(error.to_string()) }
        }
        // Nobody is there to be told.
        FirstFrameError::Ended | FirstFrameError::Stream(_) => return,
    };
    refuse(stream, &refused).await;
}

//! The first frame of a stream to a relay, and waiting for the answer.

use crate::error::ClientError;
use converge_proto::{
    FrameType,
    frame::FrameError,
    rendezvous::{Message, RefusalCode, Refused, Waiting},
};
use converge_transport::{LinkError, Stream, StreamError};
use std::time::Duration;

/// The relay says something at least this often, also while the agent is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads frames until one is the answer. `waiting` is told how much longer the relay will wait for the agent.
///
/// # Errors
/// [`ClientError`]: a refusal in the relay's words, or a stream that broke.
pub(super) async fn answer<M: Message>(
    stream: &mut Stream,
    waiting: &mut (impl FnMut(Duration) + Send),
) -> Result<M, ClientError> {
    loop {
        let reading = tokio::time::timeout(ANSWER_TIMEOUT, stream.recv.read_frame()).await;
        let frame = reading.map_err(|_| StreamError::from(LinkError::Silent))??;
        let Some(frame) = frame else {
            let error = LinkError::Broken("the stream ended without an answer".to_owned());
            return Err(StreamError::from(error).into());
        };
        match frame.frame_type {
            FrameType::WAITING => {
                let Waiting { left_ms } = Waiting::from_frame(&frame).map_err(StreamError::from)?;
                waiting(Duration::from_millis(left_ms.into()));
            }
            FrameType::REFUSED => {
                let Refused { code, text } = Refused::from_frame(&frame).map_err(StreamError::from)?;
                return Err(match code {
                    RefusalCode::NO_SUCH_ID => ClientError::NoSuchId { text: text.to_string() },
                    code => ClientError::Refused { code, text: text.to_string() },
                });
            }
            frame_type if frame_type == M::FRAME_TYPE => {
                return Ok(M::from_frame(&frame).map_err(StreamError::from)?);
            }
            frame_type => {
                let error = FrameError::Unexpected { frame_type, expected: "an answer" };
                return Err(StreamError::from(error).into());
            }
        }
    }
}

/// A wait as relays are told of it.
pub(super) fn wait_ms(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

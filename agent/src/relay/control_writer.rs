//! Writing on the control stream.

use converge_proto::{
    Frame,
    rendezvous::{Message, Ping},
};
use converge_transport::{LinkError, SendHalf, StreamError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// A frame on the control stream must have been sent by then; a relay that does not read is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames that wait to be sent: answers, and what the agent tells of itself.
const MAX_WAITING_FRAMES: usize = 64;

/// Writes frames one after the other in a task of its own: a future that is dropped in the middle of a frame would
/// be the end of the link.
pub(super) struct ControlWriter {
    frames: mpsc::Sender<Frame>,
    writing: AbortOnDropHandle<Result<(), StreamError>>,
}

impl ControlWriter {
    pub(super) fn new(send: SendHalf) -> Self {
        let (frames, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        Self { frames, writing: AbortOnDropHandle::new(tokio::spawn(write(send, waiting))) }
    }

    /// Sends a message soon.
    ///
    /// # Errors
    /// When too many wait already: the relay does not read.
    pub(super) fn send(&self, message: &impl Message) -> Result<(), StreamError> {
        match self.frames.try_send(message.to_frame()) {
            // The task has ended with an error, which `failed` tells.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Silent.into()),
        }
    }

    /// Asks the relay whether it is there. Where much waits, it has been asked already, and the room is left to the rest.
    pub(super) fn ask(&self, token: u64) {
        if self.frames.capacity() > MAX_WAITING_FRAMES / 2 {
            // The task has ended with an error, which `failed` tells.
            let _ = self.frames.try_send(Ping { token }.to_frame());
        }
    }

    /// Waits until nothing can be written any more. Cancel-safe.
    pub(super) async fn failed(&mut self) -> StreamError {
        match (&mut self.writing).await {
            Ok(Err(error)) => error,
            // It ends without an error only when no sender is left, and one is here.
            Ok(Ok(())) | Err(_) => LinkError::ClosedHere.into(),
        }
    }

    /// Sends what waits, and says that nothing more comes.
    pub(super) async fn finish(self) {
        let Self { frames, writing } = self;
        drop(frames);
        // A relay that is gone needs no more.
        let _ = writing.await;
    }
}

async fn write(mut send: SendHalf, mut waiting: mpsc::Receiver<Frame>) -> Result<(), StreamError> {
    while let Some(frame) = waiting.recv().await {
        let written = tokio::time::timeout(WRITE_TIMEOUT, send.write_frame(&frame)).await;
        written.unwrap_or(Err(LinkError::Silent.into()))?;
    }
    send.finish().await
}

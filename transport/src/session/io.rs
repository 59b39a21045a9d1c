//! The application's side of a session.

use super::{Shared, pieces::Pieces};
use bytes::Bytes;
use converge_proto::session::{DataBuffer, SessionError};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a session. Reading and writing wait while there is no stream, and go on when there is one again.
///
/// Dropping it ends the writing direction in order, and drops what still arrives.
#[derive(Debug)]
pub struct SessionIo {
    shared: Arc<Shared>,
}

impl SessionIo {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next bytes, or `None` after the last. For one reader at a time; cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`] when the session is over before its end.
    pub async fn read_chunk(&self) -> Result<Option<Bytes>, SessionError> {
        poll_fn(|cx| self.poll_chunk(cx, usize::MAX)).await
    }

    /// All bytes that are there, in order, as pieces; none after the last. At most what the window holds. For one reader
    /// at a time; cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`] when the session is over before its end.
    pub async fn read_pieces(&self, pieces: &mut Pieces) -> Result<(), SessionError> {
        let Some(first) = self.read_chunk().await? else { return Ok(()) };
        pieces.push(first);
        let mut state = self.shared.lock();
        while pieces.len() < Pieces::MAX
            && let Some(piece) = state.session.read()
        {
            pieces.push(piece);
        }
        if state.session.is_transmit_due() {
            self.shared.transmit.notify_one();
        }
        Ok(())
    }

    fn poll_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, SessionError>> {
        let mut state = self.shared.lock();
        if let Some(piece) = state.session.read_some(max) {
            if state.session.is_transmit_due() {
                self.shared.transmit.notify_one();
            }
            return Poll::Ready(Ok(Some(piece)));
        }
        if state.session.is_at_end() {
            return Poll::Ready(Ok(None));
        }
        if let Some(error) = state.session.error() {
            return Poll::Ready(Err(error.clone()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How many bytes can be written now, waiting until it is one at least. For one writer at a time; cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`] when the session is over before its end.
    pub async fn room(&self) -> Result<usize, SessionError> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some(error) = state.session.error() {
                return Poll::Ready(Err(error.clone()));
            }
            let room = state.session.room();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends what is in the buffer, which was filled within the [`room`](Self::room), and empties it.
    pub fn push(&self, buffer: &mut DataBuffer) {
        self.shared.lock().session.push(buffer);
        self.shared.transmit.notify_one();
    }

    /// Ends the writing direction.
    pub fn finish(&self) {
        self.shared.lock().session.finish();
        self.shared.transmit.notify_one();
    }
}

impl AsyncRead for SessionIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_chunk(cx, into.remaining()).map(|piece| match piece {
            Ok(piece) => {
                into.put_slice(&piece.unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
        })
    }
}

impl AsyncWrite for SessionIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if let Some(error) = state.session.error() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, error.clone())));
        }
        let written = state.session.write(bytes);
        if written > 0 || bytes.is_empty() {
            self.shared.transmit.notify_one();
            return Poll::Ready(Ok(written));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SessionIo {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.session.finish();
        state.session.discard();
        state.wake(&self.shared);
        self.shared.transmit.notify_one();
    }
}

//! Moving bytes between two streams, with back-pressure: a chunk is read only when the one before it was taken.

use crate::{
    close::StreamError,
    stream::{RecvHalf, SendHalf, Stream},
};
use futures_util::FutureExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// From the first stream to the second.
    pub forward_bytes: u64,
    /// From the second stream to the first.
    pub backward_bytes: u64,
}

/// Copies both ways until both directions have ended or one has failed. The end of one direction is passed on while
/// the other goes on, as SSH clients expect.
///
/// At most one chunk per direction is held here; the rest waits in the carriers' windows.
pub async fn copy_bidirectional(
    first: &mut Stream,
    second: &mut Stream,
) -> (Copied, Result<(), StreamError>) {
    let (forward, backward) = (AtomicU64::new(0), AtomicU64::new(0));
    let result = tokio::try_join!(
        copy(&mut first.recv, &mut second.send, &forward),
        copy(&mut second.recv, &mut first.send, &backward),
    );
    let copied = Copied { forward_bytes: forward.into_inner(), backward_bytes: backward.into_inner() };
    (copied, result.map(|_| ()))
}

/// Copies one way until the end, and passes the end on. A receiver that wants no more ends this direction only:
/// what it has still to say in the other one is not lost.
async fn copy(from: &mut RecvHalf, to: &mut SendHalf, copied: &AtomicU64) -> Result<(), StreamError> {
    match copy_all(from, to, copied).await {
        Err(CopyError::Write(StreamError::Reset(code))) => {
            from.stop(code);
            Ok(())
        }
        Err(CopyError::Read(error) | CopyError::Write(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

enum CopyError {
    Read(StreamError),
    Write(StreamError),
}

async fn copy_all(from: &mut RecvHalf, to: &mut SendHalf, copied: &AtomicU64) -> Result<(), CopyError> {
    loop {
        let ready = from.read_chunk().now_or_never();
        let chunk = if let Some(chunk) = ready {
            chunk
        } else {
            // Nothing more is there for now, so what was kept back for company goes out alone.
            to.flush().await.map_err(CopyError::Write)?;
            tokio::select! {
                biased; // Data before keepalive: a ping is only for an idle stream.
                chunk = from.read_chunk() => chunk,
                error = to.keep_alive() => return Err(CopyError::Write(error)),
            }
        };
        let Some(chunk) = chunk.map_err(CopyError::Read)? else {
            return to.finish().await.map_err(CopyError::Write);
        };
        copied.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        to.write_chunk(chunk).await.map_err(CopyError::Write)?;
    }
}

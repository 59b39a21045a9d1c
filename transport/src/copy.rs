//! Moving bytes between two streams, with back-pressure: a chunk is read only when the one before it was taken.

use crate::{
    chunk::MAX_CHUNK_BYTES,
    close::StreamError,
    stream::{RecvHalf, SendHalf, Stream},
};
use bytes::{Bytes, BytesMut};
use converge_proto::rendezvous::RefusalCode;
use futures_util::FutureExt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first stream to the second.
    Forward,
    /// From the second stream to the first.
    Backward,
}

/// Is told of every chunk that was read, before it is passed on, and may hold it back: nothing more of that direction
/// is read meanwhile.
pub trait Meter: Sync {
    /// `bytes` are about to be passed on.
    fn pass(&self, direction: Direction, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// Copies both ways until both directions have ended or one cannot be read any more. The end of one direction is
/// passed on while the other goes on, as SSH clients expect.
///
/// At most one batch of chunks per direction is held here; the rest waits in the carriers' windows.
///
/// # Errors
/// Why the one cannot be read any more.
pub async fn copy_bidirectional(
    first: &mut Stream,
    second: &mut Stream,
    meter: &impl Meter,
) -> Result<(), StreamError> {
    let forward = |bytes| meter.pass(Direction::Forward, bytes);
    let backward = |bytes| meter.pass(Direction::Backward, bytes);
    tokio::try_join!(
        copy(&mut first.recv, &mut second.send, forward),
        copy(&mut second.recv, &mut first.send, backward),
    )?;
    Ok(())
}

/// Copies one way until the end, and passes the end on. A receiver that takes no more ends this direction only: what
/// it has said, or has still to say, in the other one is not lost. If it is gone altogether, that direction shows it.
async fn copy<P: Future<Output = ()>>(
    from: &mut RecvHalf,
    to: &mut SendHalf,
    pass: impl Fn(usize) -> P,
) -> Result<(), StreamError> {
    match copy_all(from, to, pass).await {
        Err(CopyError::Write(error)) => {
            tracing::trace!(%error, "the receiver takes no more");
            from.stop(match error {
                StreamError::Reset(code) => code,
                _ => RefusalCode::AGENT_LOST,
            });
            Ok(())
        }
        Err(CopyError::Read(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

enum CopyError {
    Read(StreamError),
    Write(StreamError),
}

async fn copy_all<P: Future<Output = ()>>(
    from: &mut RecvHalf,
    to: &mut SendHalf,
    pass: impl Fn(usize) -> P,
) -> Result<(), CopyError> {
    let mut chunks = Vec::new();
    loop {
        let ready = from.read_chunk().now_or_never();
        let chunk = if let Some(chunk) = ready {
            chunk
        } else {
            // Who waits holds no memory for what may come.
            chunks = Vec::new();
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
        chunks.clear();
        chunks.push(chunk);
        let more = from.read_more(&mut chunks);
        pass(chunks.iter().map(Bytes::len).sum()).await;
        to.write_chunks(&mut chunks).await.map_err(CopyError::Write)?;
        more.map_err(CopyError::Read)?;
    }
}

/// Why bytes stopped flowing between a stream and this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalCopyError {
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What comes from this machine cannot be read.
    #[error("cannot read local input: {0}")]
    Input(#[source] io::Error),
    /// What goes to this machine cannot be written.
    #[error("cannot write local output: {0}")]
    Output(#[source] io::Error),
}

/// Copies between a stream and this machine until the peer has ended its direction. The end of `input` is passed on,
/// and the peer may go on after it.
///
/// # Errors
/// [`LocalCopyError`] says which side failed.
pub async fn copy_local(
    stream: &mut Stream,
    input: &mut (impl AsyncRead + Unpin),
    output: &mut (impl AsyncWrite + Unpin),
) -> Result<(), LocalCopyError> {
    let Stream { recv, send } = stream;
    let sending = async {
        match copy_input(input, send).await {
            Err(error @ LocalCopyError::Input(_)) => error,
            // The peer has all it wants. Whether it goes on or is gone, the other direction shows.
            Ok(()) | Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased; // What has arrived goes out, whatever happens to the other direction.
        result = copy_output(recv, output) => result,
        error = sending => Err(error),
    }
}

async fn copy_input(input: &mut (impl AsyncRead + Unpin), send: &mut SendHalf) -> Result<(), LocalCopyError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_CHUNK_BYTES);
        let ready = input.read_buf(&mut buffer).now_or_never();
        let read = if let Some(read) = ready {
            read
        } else {
            send.flush().await?;
            tokio::select! {
                biased; // As in `copy_all`.
                read = input.read_buf(&mut buffer) => read,
                error = send.keep_alive() => return Err(error.into()),
            }
        };
        match read.map_err(LocalCopyError::Input)? {
            0 => return Ok(send.finish().await?),
            _ => send.write_chunk(buffer.split().freeze()).await?,
        }
    }
}

async fn copy_output(
    recv: &mut RecvHalf,
    output: &mut (impl AsyncWrite + Unpin),
) -> Result<(), LocalCopyError> {
    while let Some(mut chunk) = recv.read_chunk().await? {
        output.write_all_buf(&mut chunk).await.map_err(LocalCopyError::Output)?;
        // Written straight to the system, so this is for writers that gather only.
        output.flush().await.map_err(LocalCopyError::Output)?;
    }
    Ok(())
}

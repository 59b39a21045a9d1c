//! Moving bytes between a session and this machine.

use super::{SessionIo, pieces::Pieces};
use bytes::Buf;
use converge_proto::session::{DataBuffer, SessionError};
use std::{convert::Infallible, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why bytes stopped flowing between a session and this machine.
#[derive(Debug, thiserror::Error)]
pub enum SessionCopyError {
    /// The session is over before its end.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What comes from this machine cannot be read.
    #[error("cannot read local input: {0}")]
    Input(#[source] io::Error),
    /// What goes to this machine cannot be written.
    #[error("cannot write local output: {0}")]
    Output(#[source] io::Error),
}

/// Copies between a session and this machine until the peer has ended its direction. The end of `input` is passed on,
/// and the peer may go on after it.
///
/// # Errors
/// [`SessionCopyError`] says which side failed.
pub async fn copy_session(
    session: &SessionIo,
    input: &mut (impl AsyncRead + Unpin),
    output: &mut (impl AsyncWrite + Unpin),
) -> Result<(), SessionCopyError> {
    let sending = async {
        match copy_input(input, session).await {
            Err(error) => error,
            // The peer has all it wants, and may go on.
            Ok(()) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased; // What has arrived goes out, whatever happens to the other direction.
        result = copy_output(session, output) => result,
        error = sending => Err(error),
    }
}

/// Takes as much of `input` as may go along with the first attach, and then waits for ever. Cancel-safe: what was taken is the
/// session's, and [`copy_session`] goes on with the rest.
pub async fn read_ahead(session: &SessionIo, input: &mut (impl AsyncRead + Unpin)) -> Infallible {
    let mut buffer = DataBuffer::default();
    while let Ok(room) = session.room().await {
        match input.read_buf(&mut buffer.spare(room)).await {
            Ok(1..) => session.push(&mut buffer),
            // Whoever copies meets it again.
            Ok(0) | Err(_) => break,
        }
    }
    std::future::pending().await
}

async fn copy_input(
    input: &mut (impl AsyncRead + Unpin),
    session: &SessionIo,
) -> Result<(), SessionCopyError> {
    let mut buffer = DataBuffer::default();
    loop {
        let room = session.room().await?;
        match input.read_buf(&mut buffer.spare(room)).await.map_err(SessionCopyError::Input)? {
            0 => {
                session.finish();
                return Ok(());
            }
            _ => session.push(&mut buffer),
        }
    }
}

async fn copy_output(
    session: &SessionIo,
    output: &mut (impl AsyncWrite + Unpin),
) -> Result<(), SessionCopyError> {
    let mut pieces = Pieces::default();
    loop {
        session.read_pieces(&mut pieces).await?;
        if !pieces.has_remaining() {
            return Ok(());
        }
        output.write_all_buf(&mut pieces).await.map_err(SessionCopyError::Output)?;
        // Written straight to the system, so this is for writers that gather only.
        output.flush().await.map_err(SessionCopyError::Output)?;
    }
}

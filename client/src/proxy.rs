//! `converge proxy`: a session on standard input and output, for ssh's `ProxyCommand`.

use crate::{error::ClientError, handoff::Handoff, session, standard_io, target::Target};
use converge_transport::{CloseCode, LocalCopyError, Stream, copy_local};

/// Joins a session and copies until the agent ends it.
///
/// # Errors
/// [`ClientError`].
pub async fn run(target: &Target, handoff: Option<&Handoff>) -> Result<(), ClientError> {
    let result = connect_and_copy(target, handoff).await;
    if let (Err(error), Some(handoff)) = (&result, handoff) {
        // ssh then reports the failure in its own way, which is less but not wrong.
        let _ = handoff.put_status(error.exit_status());
    }
    result
}

async fn connect_and_copy(target: &Target, handoff: Option<&Handoff>) -> Result<(), ClientError> {
    let mut session = session::connect(target).await?;
    if let Some(handoff) = handoff {
        handoff.put_host_key(&session.host_key).map_err(ClientError::local("cannot pass on the host key"))?;
    }
    copy_standard_io(&mut session.stream).await?;
    session.finish().await;
    Ok(())
}

/// `wsproxy --raw`: the same without frames, as a foreign tool would do it.
///
/// # Errors
/// [`ClientError`].
pub async fn run_raw(target: &Target) -> Result<(), ClientError> {
    let (mut stream, link) = session::connect_raw(target).await?;
    copy_standard_io(&mut stream).await?;
    stream.close().await;
    link.finish(CloseCode::DONE, "").await;
    Ok(())
}

async fn copy_standard_io(stream: &mut Stream) -> Result<(), ClientError> {
    match copy_local(stream, &mut standard_io::input(), &mut standard_io::output()).await {
        Ok(()) => Ok(()),
        // ssh has gone: a closed pipe is how it says that it is done.
        Err(LocalCopyError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(local_copy_error(error)),
    }
}

/// What a person is told when copying stopped.
pub(crate) fn local_copy_error(error: LocalCopyError) -> ClientError {
    match error {
        LocalCopyError::Stream(error) => error.into(),
        LocalCopyError::Input(source) => {
            ClientError::Local { what: "cannot read standard input".to_owned(), source }
        }
        LocalCopyError::Output(source) => {
            ClientError::Local { what: "cannot write standard output".to_owned(), source }
        }
    }
}

//! `converge proxy`: a session on standard input and output, for ssh's `ProxyCommand`.

use crate::{error::ClientError, handoff::Handoff, session, standard_io, target::Target};
use converge_transport::{CloseCode, LocalCopyError, Stream, copy_local};
use std::{io, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long the bytes in flight have after a signal to stop. ssh sends one as soon as it has written its last words.
const STOP_GRACE: Duration = Duration::from_secs(1);

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
    let (mut input, mut output) = (standard_io::input(), standard_io::output());
    let stop = stop_signal().map_err(ClientError::local("cannot listen for signals"))?;
    let copied = tokio::select! {
        biased; // An end in order counts more than one by signal.
        copied = copy_local(stream, &mut input, &mut output) => copied,
        () = async { stop.await; tokio::time::sleep(STOP_GRACE).await } => Ok(()),
    };
    match copied {
        Ok(()) => Ok(()),
        // ssh has gone: a closed pipe is how it says that it is done.
        Err(LocalCopyError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(local_copy_error(error)),
    }
}

/// Waits for a signal that ends programs: from ssh when it ends, from a terminal that is closed, from a person. The
/// session is then closed rather than dropped, since without a word the other end would wait for us.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
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

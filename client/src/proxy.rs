//! `converge proxy`: a session on standard input and output, for ssh's `ProxyCommand`.

use crate::{error::ClientError, handoff::Handoff, platform, session, target::Target};
use converge_transport::{CloseCode, LocalCopyError, copy_local};
use std::{io, time::Duration};

/// How long the bytes in flight have after a signal to stop. ssh sends one as soon as it has written its last words.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Joins a session and copies until the agent ends it.
///
/// # Errors
/// [`ClientError`].
pub async fn run(target: &Target, handoff: Option<&Handoff>) -> Result<(), ClientError> {
    // On the heap: what dialing has to remember is large.
    let result = Box::pin(connect_and_copy(target, handoff)).await;
    if let (Err(error), Some(handoff)) = (&result, handoff) {
        // ssh then reports the failure in its own way, which is less but not wrong.
        let _ = handoff.put_status(error.exit_status());
    }
    result
}

async fn connect_and_copy(target: &Target, handoff: Option<&Handoff>) -> Result<(), ClientError> {
    let (mut input, mut output) = (platform::input(), platform::output());
    let session = session::connect(target, &mut input).await?;
    if let Some(handoff) = handoff {
        handoff.put_host_key(&session.host_key).map_err(ClientError::local("cannot pass on the host key"))?;
    }
    let copied = session.copy(&mut input, &mut output, stop_in_a_moment()?, None).await;
    copied.map(drop).or_else(ignore_closed_output)
}

/// `wsproxy --raw`: the same without frames, as a foreign tool would do it.
///
/// # Errors
/// [`ClientError`].
pub async fn run_raw(target: &Target) -> Result<(), ClientError> {
    let (mut stream, link) = session::connect_raw(target).await?;
    let (mut input, mut output) = (platform::input(), platform::output());
    let stop = stop_in_a_moment()?;
    let copied = tokio::select! {
        biased; // An end in order counts more than one by signal.
        copied = copy_local(&mut stream, &mut input, &mut output) => copied.map_err(local_copy_error),
        () = stop => Ok(()),
    };
    copied.or_else(ignore_closed_output)?;
    stream.close().await;
    link.finish(CloseCode::DONE, "").await;
    Ok(())
}

/// ssh has gone: a closed pipe is how it says that it is done.
fn ignore_closed_output(error: ClientError) -> Result<(), ClientError> {
    match error {
        ClientError::Local { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        error => Err(error),
    }
}

/// A moment after a signal: the bytes in flight may still arrive. The session is then closed rather than dropped, since
/// without a word the other end would wait for us.
fn stop_in_a_moment() -> Result<impl Future<Output = ()>, ClientError> {
    let stop = platform::stop_signal().map_err(ClientError::local("cannot listen for signals"))?;
    Ok(async {
        stop.await;
        tokio::time::sleep(STOP_GRACE).await;
    })
}

/// What a person is told when copying stopped.
pub(crate) fn local_copy_error(error: LocalCopyError) -> ClientError {
    match error {
        LocalCopyError::Stream(error) => error.into(),
        LocalCopyError::Input(source) => {
            ClientError::Local { what: "cannot read local input".to_owned(), source }
        }
        LocalCopyError::Output(source) => {
            ClientError::Local { what: "cannot write local output".to_owned(), source }
        }
    }
}

//! `converge listen`: a local TCP port; each connection to it is a session.

use crate::{
    error::ClientError,
    proxy::local_copy_error,
    session,
    target::{Target, say},
};
use converge_transport::{CloseCode, copy_local};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Sessions at the same time; further connections wait in the kernel's queue.
const MAX_SESSIONS: usize = 256;
/// After an accept that failed for want of descriptors: time for some to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether sessions speak frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As `converge proxy`.
    Converge,
    /// As `wsproxy --raw`.
    Raw,
}

/// Listens, and serves until `stop`. Trouble with one connection ends that connection.
///
/// # Errors
/// [`ClientError`] when the address cannot be bound.
pub async fn run(
    target: Target,
    listen: SocketAddr,
    framing: Framing,
    stop: CancellationToken,
) -> Result<(), ClientError> {
    let listener =
        TcpListener::bind(listen).await.map_err(ClientError::local(format!("cannot listen on {listen}")))?;
    let address = listener.local_addr().map_err(ClientError::local("cannot tell the listening address"))?;
    println!("listening on {address}");
    let target = Arc::new(target);
    let sessions = TaskTracker::new();
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_SESSIONS));
    loop {
        let accepted = tokio::select! {
            biased; // The accept loop always loses against the end.
            () = stop.cancelled() => break,
            accepted = async { (permits.clone().acquire_owned().await, listener.accept().await) } => accepted,
        };
        let (Ok(permit), Ok((connection, peer))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (target, stop) = (target.clone(), stop.clone());
        sessions.spawn(async move {
            let _permit = permit;
            let whose = format!("connection from {peer}");
            // On the heap: what dialing has to remember is large.
            let serving = Box::pin(serve(&target, connection, framing, &stop, &whose));
            if let Err(error) = serving.await {
                say(&format!("{whose}: {error}"));
            }
        });
    }
    sessions.close();
    sessions.wait().await;
    Ok(())
}

async fn serve(
    target: &Target,
    mut connection: TcpStream,
    framing: Framing,
    stop: &CancellationToken,
    whose: &str,
) -> Result<(), ClientError> {
    // Keystrokes are small and must not wait for company; without the option they would still arrive.
    let _ = connection.set_nodelay(true);
    let (mut input, mut output) = connection.split();
    match framing {
        Framing::Converge => {
            let Some(session) = stop.run_until_cancelled(session::connect(target, &mut input)).await else {
                return Ok(());
            };
            session?.copy(&mut input, &mut output, stop.cancelled(), Some(whose)).await?;
        }
        Framing::Raw => {
            let copying = async {
                let (mut stream, link) = session::connect_raw(target).await?;
                copy_local(&mut stream, &mut input, &mut output).await.map_err(local_copy_error)?;
                stream.close().await;
                link.finish(CloseCode::DONE, "").await;
                Ok(())
            };
            return stop.run_until_cancelled(copying).await.unwrap_or(Ok(()));
        }
    }
    Ok(())
}

//! One SSH connection from its first byte to the last clean-up.

use std::io::ErrorKind;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::Disconnect;
use russh::server::RunningSession;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span};

use super::handler::ConnectionHandler;
use super::stream::SeverableStream;
use super::{SessionContext, SessionEnd, Shared, SshError};
use crate::events::Event;
use crate::users::user::User;

/// How long a client may take from its first byte to a login; half of what OpenSSH's server allows by default.
pub const LOGIN_GRACE_TIME: Duration = Duration::from_mins(1);

/// How long a client may take to read our farewell and to hang up after it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// The tokens and tasks of one connection.
#[derive(Clone)]
pub(super) struct ConnectionLife {
    /// Fires when the connection ends: everything that runs for it stops then.
    pub(super) ended: CancellationToken,
    /// Fires at login.
    pub(super) logged_in: CancellationToken,
    /// Who logged in.
    pub(super) user: Arc<OnceLock<User>>,
    /// All tasks that run for the connection.
    pub(super) tasks: TaskTracker,
}

pub(super) async fn serve<S>(
    shared: Arc<Shared>,
    stream: S,
    context: SessionContext,
    cancel: CancellationToken,
) -> Result<SessionEnd, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let span = info_span!("ssh", session = %context.id);
    let life = ConnectionLife {
        ended: cancel.child_token(),
        logged_in: CancellationToken::new(),
        user: Arc::default(),
        tasks: TaskTracker::new(),
    };
    let (session, begun) = (context.id.clone(), Instant::now());
    shared.events.emit(Event::SessionStarted { session: session.clone() });
    // Not a child of `cancel`: the client is told first, over the stream that this cuts.
    let cut = CancellationToken::new();
    // When this future is dropped early.
    let _guards = (life.ended.clone().drop_guard(), cut.clone().drop_guard());

    async {
        let handler = ConnectionHandler::new(Arc::clone(&shared), context, life.clone());
        let stream = SeverableStream::new(stream, cut.clone());
        let result = run(&shared, stream, handler, &life, &cancel, &cut).await;
        life.ended.cancel();
        cut.cancel();
        life.tasks.close();
        life.tasks.wait().await;
        let logged_in = life.logged_in.is_cancelled();
        let reason = match &result {
            _ if cancel.is_cancelled() => shared.life.farewell().to_owned(),
            Err(error) if !is_hang_up(error) => error.to_string(),
            _ => "the client has left".to_owned(),
        };
        let (user, seconds) = (life.user.get().cloned(), begun.elapsed().as_secs_f64());
        shared.events.emit(Event::SessionFinished { session, user, seconds, reason });
        match result {
            Err(error) if !is_hang_up(&error) => {
                debug!(%error, logged_in, "connection failed");
                Err(error)
            }
            _ => {
                if logged_in {
                    info!("connection ended");
                } else {
                    debug!("connection ended without a login");
                }
                Ok(SessionEnd { logged_in })
            }
        }
    }
    .instrument(span)
    .await
}

async fn run<S>(
    shared: &Shared,
    stream: SeverableStream<S>,
    handler: ConnectionHandler,
    life: &ConnectionLife,
    cancel: &CancellationToken,
    cut: &CancellationToken,
) -> Result<(), SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadline = Instant::now() + LOGIN_GRACE_TIME;
    let mut running = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        started = russh::server::run_stream(Arc::clone(&shared.protocol), stream, handler) => started?,
        () = sleep_until(deadline) => return Err(SshError::LoginTimeout),
    };
    // From here on the connection has a task of its own, which has to be waited for.
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Stop::Cancelled),
        () = life.logged_in.cancelled() => tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Stop::Cancelled),
            result = &mut running => Ok(result),
        },
        result = &mut running => Ok(result),
        () = sleep_until(deadline) => Err(Stop::LoginTimeout),
    };
    match result {
        Ok(result) => result,
        Err(stop) => {
            life.ended.cancel();
            farewell(&mut running, stop.reason(shared), cut).await;
            stop.into_result()
        }
    }
}

/// Tells the client why the connection ends, and ends it.
async fn farewell(running: &mut RunningSession<ConnectionHandler>, reason: &str, cut: &CancellationToken) {
    let handle = running.handle();
    let told = handle.disconnect(Disconnect::ByApplication, reason.to_owned(), String::new());
    if let Ok(Ok(())) = timeout(FAREWELL_TIME, told).await
        && timeout(FAREWELL_TIME, &mut *running).await.is_ok()
    {
        return;
    }
    cut.cancel();
    // How a connection fails that was cut off says nothing.
    let _ = running.await;
}

/// Why a connection is ended by us.
#[derive(Clone, Copy)]
enum Stop {
    Cancelled,
    LoginTimeout,
}

impl Stop {
    fn reason(self, shared: &Shared) -> &str {
        match self {
            Self::Cancelled => shared.life.farewell(),
            Self::LoginTimeout => "no login in time",
        }
    }

    fn into_result(self) -> Result<(), SshError> {
        match self {
            Self::Cancelled => Ok(()),
            Self::LoginTimeout => Err(SshError::LoginTimeout),
        }
    }
}

/// Whether the error only says that the client has gone away.
fn is_hang_up(error: &SshError) -> bool {
    match error {
        SshError::Protocol(russh::Error::HUP | russh::Error::Disconnect) => true,
        SshError::Protocol(russh::Error::IO(error)) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::NotConnected
        ),
        _ => false,
    }
}

//! The sessions of an agent: what comes in on a stream, and what outlives it.

use crate::ssh::{NotifyClient, SessionContext, SshError, SshServer};
use converge_proto::{
    frame::FrameError,
    rendezvous::{Incoming, Message, RefusalCode, Refused, SessionKind, messages::Line},
    session::{Attach, AttachGate, RESUME_WINDOW, SessionId},
};
use converge_transport::{Carrier, Link, SessionIo, SessionLink, Stream, StreamError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

/// The first frames of a stream must have come, and an answer must have gone, by then.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions at the same time, whatever the relay allows; those that wait for their client to come back count.
const MAX_SESSIONS: usize = 512;
/// Streams that have not said yet what they are for, at the same time.
const MAX_NEW_STREAMS: usize = 512;
/// How long the last words of a session may take when it is over, or when the agent stops.
const LAST_WORDS_TIME: Duration = Duration::from_secs(2);

/// Variables for every program of a session.
type Environment = Vec<(String, String)>;

/// Every session of an agent. Clones are the same.
#[derive(Clone)]
pub(crate) struct Sessions {
    ssh: SshServer,
    table: Arc<Mutex<HashMap<SessionId, Arc<Entry>>>>,
    tasks: TaskTracker,
}

/// A session that can be attached again.
struct Entry {
    link: SessionLink,
    attaching: Mutex<Attaching>,
    /// Held by the stream that is driven, so that there is one at a time.
    driving: tokio::sync::Mutex<()>,
}

struct Attaching {
    gate: AttachGate,
    /// Ends the stream that is driven, in favour of another one or for good.
    stop_driving: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum SessionFailure {
    #[error("nobody said who comes")]
    Silent,
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("refused: {}", .0.text)]
    Refused(Refused),
    #[error(transparent)]
    Ssh(#[from] SshError),
}

impl From<FrameError> for SessionFailure {
    fn from(error: FrameError) -> Self {
        StreamError::from(error).into()
    }
}

impl Sessions {
    pub(crate) fn new(ssh: SshServer) -> Self {
        Self { ssh, table: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Serves a stream that the relay has opened on this link. What is begun on it ends with `stop` at the latest.
    pub(crate) fn accept(
        &self,
        stream: Stream,
        link: &Link,
        environment: Environment,
        stop: &CancellationToken,
    ) {
        if self.tasks.len() >= MAX_SESSIONS * 2 + MAX_NEW_STREAMS {
            warn!("a stream is refused: there are too many");
            self.tasks.spawn(stream.reset(RefusalCode::LIMIT));
            return;
        }
        let (sessions, stop) = (self.clone(), stop.child_token());
        let (carrier, room) = (link.carrier(), link.room());
        self.tasks.spawn(async move {
            let _room = room;
            if let Err(error) = sessions.serve(stream, carrier, environment, stop).await {
                warn!(%error, "a session's stream ended with an error");
            }
        });
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Waits until all have ended, after they were told to.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn serve(
        &self,
        mut stream: Stream,
        carrier: Carrier,
        environment: Environment,
        stop: CancellationToken,
    ) -> Result<(), SessionFailure> {
        let Some(incoming) = read::<Incoming>(&mut stream).await? else {
            stream.reset(RefusalCode::PROTOCOL_VIOLATION).await;
            return Err(SessionFailure::Silent);
        };
        let client = incoming.client.software.to_string();
        let address = incoming.client.address.map(|address| address.to_string()).unwrap_or_default();
        let number = incoming.session;
        match incoming.kind {
            SessionKind::Raw => {
                info!(session = number, %carrier, client, address, "raw session begins");
                let context = context(number.to_string(), environment);
                let Stream { recv, send } = stream;
                let end = self.ssh.serve(tokio::io::join(recv, send), context, stop).await;
                info!(
                    session = number,
                    logged_in = end.as_ref().is_ok_and(|end| end.logged_in),
                    "session ends"
                );
                end?;
                Ok(())
            }
            SessionKind::Resumable => {
                let Some(attach) = read::<Attach>(&mut stream).await? else {
                    stream.reset(RefusalCode::PROTOCOL_VIOLATION).await;
                    return Err(SessionFailure::Silent);
                };
                let session = attach.session;
                info!(%session, attempt = attach.attempt, relays_number = number, %carrier, client, address, "stream comes");
                match self.admit(&attach, environment, &stop) {
                    Ok((entry, stop_driving)) => self.attach(stream, &attach, &entry, &stop_driving).await,
                    Err(refused) => Err(refuse(stream, refused).await),
                }
            }
            SessionKind::Other(kind) => {
                stream.reset(RefusalCode::UNSUPPORTED).await;
                let text = Line::new(format!("sessions of kind {kind} are not supported; upgrade the agent"));
                Err(SessionFailure::Refused(Refused { code: RefusalCode::UNSUPPORTED, text }))
            }
        }
    }

    /// Finds or begins the session. The stream that was driven so far, if any, is told to stop.
    fn admit(
        &self,
        attach: &Attach,
        environment: Environment,
        stop: &CancellationToken,
    ) -> Result<(Arc<Entry>, CancellationToken), Refused> {
        let mut table = lock(&self.table);
        let stop_driving = CancellationToken::new();
        if let Some(entry) = table.get(&attach.session) {
            let mut attaching = lock(&entry.attaching);
            attaching.gate.admit(attach)?;
            std::mem::replace(&mut attaching.stop_driving, stop_driving.clone()).cancel();
            return Ok((entry.clone(), stop_driving));
        }
        let gate = AttachGate::begin(attach)?;
        if table.len() >= MAX_SESSIONS || stop.is_cancelled() {
            let text = Line::new(format!("the agent has {MAX_SESSIONS} sessions already, or is stopping"));
            return Err(Refused { code: RefusalCode::LIMIT, text });
        }
        let (io, link) = SessionLink::agent();
        let attaching = Mutex::new(Attaching { gate, stop_driving: stop_driving.clone() });
        let entry = Arc::new(Entry { link, attaching, driving: tokio::sync::Mutex::new(()) });
        table.insert(attach.session, entry.clone());
        let mut context = context(attach.session.to_string(), environment);
        let notified = entry.link.clone();
        context.notify_client =
            Some(NotifyClient(Arc::new(move |notice| notified.notify(notice.to_session()))));
        let (sessions, id, owned, stop) = (self.clone(), attach.session, entry.clone(), stop.clone());
        self.tasks.spawn(async move {
            sessions.own(id, &owned, io, context, stop).await;
            lock(&sessions.table).remove(&id);
            if owned.link.is_over() {
                // Whoever drives it sends the last words and ends by itself.
                let _ = tokio::time::timeout(LAST_WORDS_TIME, owned.driving.lock()).await;
            }
            lock(&owned.attaching).stop_driving.cancel();
        });
        Ok((entry, stop_driving))
    }

    /// A session from its first byte to its last, whatever streams it runs over.
    async fn own(
        &self,
        id: SessionId,
        entry: &Entry,
        io: SessionIo,
        context: SessionContext,
        stop: CancellationToken,
    ) {
        info!(session = %id, "session begins");
        let serving = self.ssh.serve(io, context, stop.clone());
        tokio::pin!(serving);
        let end = tokio::select! {
            end = &mut serving => end,
            () = entry.link.abandoned(RESUME_WINDOW) => {
                info!(session = %id, "the client has not come back in time");
                entry.link.reset(RefusalCode::EXPIRED, "the session was kept for its client for long enough");
                // Programs are hung up; how SSH sees its own end says nothing more, and nobody is left to fetch anything.
                let _ = serving.await;
                return;
            }
        };
        let logged_in = match end {
            Ok(end) => {
                info!(session = %id, logged_in = end.logged_in, "session ends");
                end.logged_in
            }
            Err(error) => {
                warn!(session = %id, %error, "session ends");
                false
            }
        };
        // The last bytes, such as the exit status, can be fetched for as long as any others; not by strangers, who
        // could fill the table.
        let fetch_time = if logged_in { RESUME_WINDOW } else { LAST_WORDS_TIME };
        tokio::select! {
            () = entry.link.over() => {}
            () = tokio::time::sleep(fetch_time) => {}
            () = async { stop.cancelled().await; tokio::time::sleep(LAST_WORDS_TIME).await } => {}
        }
    }

    /// Joins the session to this stream, until the stream breaks, another one takes its place, or the session is over.
    async fn attach(
        &self,
        mut stream: Stream,
        attach: &Attach,
        entry: &Entry,
        stop_driving: &CancellationToken,
    ) -> Result<(), SessionFailure> {
        let session = attach.session;
        let Some(permit) = stop_driving.run_until_cancelled(entry.driving.lock()).await else {
            stream.reset(RefusalCode::SUPERSEDED).await;
            return Ok(());
        };
        let (attached, attachment) = match entry.link.accept(attach) {
            Ok(accepted) => accepted,
            Err(error) => {
                let text = Line::new(error.to_string());
                return Err(refuse(stream, Refused { code: RefusalCode::PROTOCOL_VIOLATION, text }).await);
            }
        };
        let driving = async {
            stream.send.write_frame(&attached.to_frame()).await?;
            attachment.drive(&mut stream).await
        };
        let end = stop_driving.run_until_cancelled(driving).await;
        // The next stream need not wait for the farewell of this one.
        drop((attachment, permit));
        match end {
            Some(Ok(())) => stream.close().await,
            None if entry.link.is_over() => stream.close().await,
            None => {
                debug!(%session, attempt = attach.attempt, "another stream takes over");
                stream.reset(RefusalCode::SUPERSEDED).await;
            }
            Some(Err(error)) => {
                info!(%session, attempt = attach.attempt, %error, "stream lost; the session waits for its client");
                stream.reset(RefusalCode::AGENT_LOST).await;
            }
        }
        Ok(())
    }
}

fn context(id: String, environment: Environment) -> SessionContext {
    let mut context = SessionContext::new(id);
    context.environment = environment;
    context
}

/// The next frame as this message; `None` when there is none in time.
async fn read<M: Message>(stream: &mut Stream) -> Result<Option<M>, SessionFailure> {
    match tokio::time::timeout(FRAME_TIMEOUT, stream.recv.read_frame()).await {
        Ok(frame) => Ok(frame?.map(|frame| M::from_frame(&frame)).transpose()?),
        Err(_) => Ok(None),
    }
}

/// Says no in words.
async fn refuse(mut stream: Stream, refused: Refused) -> SessionFailure {
    let saying = async {
        stream.send.write_frame(&refused.to_frame()).await?;
        stream.send.finish().await
    };
    // A client that does not listen finds out by the end of the stream.
    let _ = tokio::time::timeout(FRAME_TIMEOUT, saying).await;
    stream.close().await;
    SessionFailure::Refused(refused)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

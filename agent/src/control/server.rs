//! Answering what is asked over the control socket.

use super::{
    Answer, Envelope, MAX_LINE_BYTES, Request,
    messages::{Status, StatusEnd, StatusUser},
};
use crate::{
    job::step::StepCommand,
    life::login_text::LoginText,
    life::{EndReason, Life, Snapshot},
    platform::control_socket::ControlListener,
    relay::announce::Announcement,
};
use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tracing::{debug, info};

/// A request must have come, and its answer gone, by then.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at the same time; more wait.
const MAX_REQUESTS: usize = 16;
/// Nobody means more than that, and clocks must not overflow.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// What is needed to answer.
#[derive(Clone, Debug)]
pub struct Control {
    /// Who is there, and what ends it.
    pub life: Life,
    /// How it can be reached.
    pub announcements: watch::Receiver<Option<Announcement>>,
    /// What the job is.
    pub login_text: LoginText,
    /// The command that was run.
    pub step: Option<StepCommand>,
}

/// A socket that listens.
#[derive(Debug)]
pub struct ControlServer {
    listener: ControlListener,
}

impl ControlServer {
    /// Listens in `directory`, which is locked for this process: a socket that is there is a leftover.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        Ok(Self { listener: ControlListener::bind(directory)? })
    }

    /// Answers for ever; drop the future to stop.
    pub async fn run(mut self, control: Control) {
        let (control, places) = (Arc::new(control), Arc::new(Semaphore::new(MAX_REQUESTS)));
        let mut requests = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    debug!(%error, "control socket");
                    // Too many open files, for instance.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while requests.try_join_next().is_some() {}
            let control = control.clone();
            requests.spawn(async move {
                match timeout(TIMEOUT, control.serve(stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "control request"),
                    Err(_) => debug!("a control request took too long"),
                }
                drop(place);
            });
        }
    }
}

impl Control {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(stream);
        let mut line = Vec::new();
        BufReader::new(read.take(MAX_LINE_BYTES)).read_until(b'\n', &mut line).await?;
        let (answer, end) = match serde_json::from_slice::<Envelope>(&line) {
            Ok(envelope) => self.answer(envelope).await,
            Err(error) => (
                Answer::Error { message: format!("the agent does not understand the request: {error}") },
                None,
            ),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        write.shutdown().await?;
        // Who asked has the answer before it is cut off.
        if let Some(reason) = end {
            self.life.end(reason);
        }
        Ok(())
    }

    async fn answer(&self, envelope: Envelope) -> (Answer, Option<EndReason>) {
        let session = envelope.session.as_deref();
        info!(session, request = ?envelope.request, "asked over the control socket");
        let seconds = |seconds: u64| Duration::from_secs(seconds).min(LONGEST);
        let changed = match envelope.request {
            Request::Status => Ok(self.life.snapshot()),
            Request::Extend { seconds: time } => {
                Ok(self.life.extend(seconds(time), self.name(session)).await)
            }
            Request::Hold { seconds: time } => self.life.hold(time.map(seconds)).await,
            Request::Release => self.life.release().await,
            Request::Resume => return (Answer::Ending, Some(EndReason::Resume)),
            Request::Fail { status } => return (Answer::Ending, Some(EndReason::Fail(status))),
            Request::Step => {
                let answer = self.step.clone().map_or_else(
                    || Answer::Error {
                        message: "no command was run: the agent was not started with `run`".to_owned(),
                    },
                    Answer::Step,
                );
                return (answer, None);
            }
        };
        let answer = match changed {
            Ok(snapshot) => Answer::Status(Box::new(self.status(&snapshot, session))),
            Err(error) => Answer::Error { message: error.to_string() },
        };
        (answer, None)
    }

    /// How others see whoever asks.
    fn name(&self, session: Option<&str>) -> Option<String> {
        let snapshot = self.life.snapshot();
        let present = snapshot.users.iter().find(|present| Some(present.session.as_str()) == session)?;
        Some(present.user.to_string())
    }

    fn status(&self, snapshot: &Snapshot, session: Option<&str>) -> Status {
        let announcement = self.announcements.borrow().clone();
        let users = snapshot.users.iter().map(|present| StatusUser {
            name: present.user.to_string(),
            login: present.user.login.clone(),
            key: present.user.key.clone(),
            session: present.session.clone(),
            you: Some(present.session.as_str()) == session,
            since: present.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        });
        Status {
            id: announcement.as_ref().map(|announcement| announcement.id().to_string()),
            address: announcement.as_ref().map(|announcement| announcement.address().to_string()),
            job: self.login_text.job.clone(),
            job_url: self.login_text.job_url.clone(),
            users: users.collect(),
            held: snapshot.is_held,
            ends: snapshot.deadline.map(|(clock, at)| StatusEnd {
                clock: clock.name().to_owned(),
                seconds: at.saturating_duration_since(Instant::now()).as_secs(),
            }),
            step: self.login_text.step.clone(),
        }
    }
}

//! The agent's life in the job: who is there, which clock runs, what ends it, and what users are told of it.
//!
//! [`life`] makes a [`Life`], the handle that everything else holds, and a [`LifeTask`], which owns the state and is run
//! once. The rules of the clocks are [`converge_proto::expiry`]'s.

use crate::{events::Events, life::activity::Activity, life::notice::Notice, users::user::User};
use converge_proto::expiry::{Clock, Deadline, ExpiryLimits};
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};

pub mod activity;
pub(crate) mod hold;
pub mod login_text;
pub mod notice;
mod task;

pub use hold::HoldFile;
pub use task::LifeTask;

/// Notices that a slow terminal may be behind with; older ones go.
const MAX_WAITING_NOTICES: usize = 64;

/// What an agent's life is governed by.
#[derive(Debug)]
pub struct LifeConfig {
    /// The clocks.
    pub limits: ExpiryLimits,
    /// `.hold` in the agent directory.
    pub hold_file: PathBuf,
    /// What users do.
    pub activity: Activity,
    /// Told of warnings.
    pub events: Events,
}

/// A new agent's life: the handle, and the task that lives it.
pub fn life(config: LifeConfig) -> (Life, LifeTask) {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (snapshots, _) = watch::channel(Snapshot::new(config.limits.clone()));
    let (notices, _) = broadcast::channel(MAX_WAITING_NOTICES);
    let farewell = Arc::default();
    let life = Life { commands, snapshots, notices, farewell };
    let task = LifeTask::new(config, life.clone(), inbox);
    (life, task)
}

/// The handle to an agent's life; cheap to clone.
#[derive(Clone, Debug)]
pub struct Life {
    /// Not more than one per login, logout and request.
    commands: mpsc::UnboundedSender<Command>,
    snapshots: watch::Sender<Snapshot>,
    notices: broadcast::Sender<Notice>,
    farewell: Arc<OnceLock<String>>,
}

impl Life {
    /// A life that nobody lives: nothing ends it, and nothing is said but what others tell.
    pub fn endless() -> Self {
        let limits = ExpiryLimits { first: None, idle: None, lifetime: None, warn: Vec::new() };
        let (commands, _) = mpsc::unbounded_channel();
        let (snapshots, _) = watch::channel(Snapshot::new(limits));
        let (notices, _) = broadcast::channel(MAX_WAITING_NOTICES);
        Self { commands, snapshots, notices, farewell: Arc::default() }
    }

    /// Somebody has logged in; they have left when the returned value is dropped.
    pub fn join(&self, session: &str, user: User) -> Presence {
        let present = Present { session: session.to_owned(), user, since: SystemTime::now() };
        self.send(Command::Join(present));
        Presence { life: self.clone(), session: session.to_owned() }
    }

    /// How things are now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// How things are, from now on.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.subscribe()
    }

    /// What users are told from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Tells users.
    pub fn tell(&self, notice: Notice) {
        // Nobody may be there.
        let _ = self.notices.send(notice);
    }

    /// Why the agent ends, for everybody who is still connected.
    pub fn farewell(&self) -> &str {
        self.farewell.get().map_or("the agent is stopping", String::as_str)
    }

    /// Nothing but the hard cap ends the agent for at least this long. Answers with how things are then.
    pub async fn extend(&self, by: Duration, who: Option<String>) -> Snapshot {
        self.ask(|answer| Command::Extend { by, who, answer }).await
    }

    /// The agent stays when the last user leaves; with a time, it is also kept awake for so long.
    pub async fn hold(&self, time: Option<Duration>) -> Result<Snapshot, HoldError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Hold { change: HoldChange::Hold(time), answer });
        answered.await.unwrap_or_else(|_| Ok(self.snapshot()))
    }

    /// Takes a hold back.
    pub async fn release(&self) -> Result<Snapshot, HoldError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Hold { change: HoldChange::Release, answer });
        answered.await.unwrap_or_else(|_| Ok(self.snapshot()))
    }

    /// Ends the agent. The first reason counts.
    pub fn end(&self, reason: EndReason) {
        self.send(Command::End(reason));
    }

    /// As [`extend`](Self::extend), without waiting.
    pub fn extend_soon(&self, by: Duration, who: &str) {
        let (answer, _) = oneshot::channel();
        self.send(Command::Extend { by, who: Some(who.to_owned()), answer });
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Snapshot>) -> Command) -> Snapshot {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer));
        // An agent that has ended answers with how it was.
        answered.await.unwrap_or_else(|_| self.snapshot())
    }

    fn send(&self, command: Command) {
        // Fails when the agent has ended, and nothing matters any more.
        let _ = self.commands.send(command);
    }
}

/// Somebody's being there.
#[derive(Debug)]
pub struct Presence {
    life: Life,
    session: String,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.life.send(Command::Leave { session: std::mem::take(&mut self.session) });
    }
}

/// Why a hold cannot be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot change {}: {source}", path.display())]
pub struct HoldError {
    path: PathBuf,
    source: std::io::Error,
}

#[derive(Debug)]
enum Command {
    Join(Present),
    Leave { session: String },
    Extend { by: Duration, who: Option<String>, answer: oneshot::Sender<Snapshot> },
    Hold { change: HoldChange, answer: oneshot::Sender<Result<Snapshot, HoldError>> },
    End(EndReason),
}

#[derive(Clone, Copy, Debug)]
enum HoldChange {
    Hold(Option<Duration>),
    Release,
}

/// Why an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A clock has run out.
    Clock(Clock, Duration),
    /// The last user has left.
    LastLogout,
    /// A user said `resume`: the job goes on as if nothing had failed.
    Resume,
    /// A user said `fail`: the job ends with this status.
    Fail(u8),
    /// The relay's operator stops it; users were told why.
    Operator,
    /// The job was cancelled: the agent was told to stop by this signal.
    Signal(i32),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(Clock::First, time) => write!(f, "nobody logged in for {}", Short(*time)),
            Self::Clock(Clock::Idle, time) => write!(f, "nobody did anything for {}", Short(*time)),
            Self::Clock(Clock::Lifetime, time) => {
                write!(f, "its longest lifetime of {} is over", Short(*time))
            }
            Self::LastLogout => f.write_str("the last user has left"),
            Self::Resume => f.write_str("a user lets the job go on"),
            Self::Fail(status) => write!(f, "a user lets the job fail with status {status}"),
            Self::Operator => f.write_str("the relay's operator stopped it"),
            Self::Signal(_) => f.write_str("the job was cancelled"),
        }
    }
}

/// Somebody who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Their session.
    pub session: String,
    /// Who.
    pub user: User,
    /// Since when.
    pub since: SystemTime,
}

/// How things are at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Who is there, in the order in which they came.
    pub users: Vec<Present>,
    /// Which clock runs out first, and when.
    pub deadline: Option<(Clock, Instant)>,
    /// When the hard cap ends it.
    pub latest: Option<Instant>,
    /// Whether the agent stays when the last user leaves.
    pub is_held: bool,
    /// What the clocks were set to.
    pub limits: ExpiryLimits,
}

impl Snapshot {
    pub(crate) fn new(limits: ExpiryLimits) -> Self {
        Self { users: Vec::new(), deadline: None, latest: None, is_held: false, limits }
    }

    fn deadline_of(deadline: Option<Deadline>) -> Option<(Clock, Instant)> {
        deadline.map(|deadline| (deadline.clock, deadline.at.into()))
    }
}

/// A time as people say it: two units at most, none of them tiny.
#[derive(Clone, Copy, Debug)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to the nearest second, or minute above ten of them.
        let seconds = (self.0 + Duration::from_millis(500)).as_secs();
        let rounded = if seconds > 600 { (seconds + 30) / 60 * 60 } else { seconds };
        write!(f, "{}", humantime::format_duration(Duration::from_secs(rounded)))
    }
}

#[cfg(test)]
mod tests;

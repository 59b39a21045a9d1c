//! One agent, as the relay knows it.

use super::{Directory, Happening, SessionEntry};
use crate::{access::Grant, peer::Peer};
use converge_proto::{
    HostKey, Id,
    rendezvous::{AgentInfo, ExpiryWarning, LinkNumber, Status, messages::Line},
};
use converge_transport::Carrier;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot};

/// What waits to be asked of one agent; more is refused at once.
const MAX_WAITING_ACTIONS: usize = 8;
/// The agent must have answered by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent that comes.
#[derive(Debug)]
pub struct NewAgent {
    /// Its link.
    pub number: LinkNumber,
    /// The ID it was given.
    pub id: Id,
    /// The key it has proved.
    pub host_key: HostKey,
    /// What it says about itself; not verified.
    pub info: AgentInfo,
    /// Where it comes from.
    pub peer: Peer,
    /// What it was let in by, with what a CI system has signed about its job.
    pub grant: Grant,
}

/// A registered agent.
#[derive(Debug)]
pub struct AgentEntry {
    /// Its link: another one when it has moved.
    pub number: LinkNumber,
    /// The ID it has.
    pub id: Id,
    /// The key it has proved.
    pub host_key: HostKey,
    /// What it says about itself; not verified.
    pub info: AgentInfo,
    /// What its link runs on.
    pub carrier: Carrier,
    /// Where it comes from.
    pub peer: Peer,
    /// What it was let in by. Its claims are verified; they are its CI system's.
    pub grant: Grant,
    /// Since when it is here, over all its links that followed each other without a gap.
    pub since: SystemTime,
    changing: Mutex<Changing>,
    /// Bytes of sessions that have ended.
    to_agent_bytes: AtomicU64,
    to_client_bytes: AtomicU64,
    /// Boxed: a channel has room for 32 from the start, and nobody asks most agents for anything.
    actions: mpsc::Sender<Box<Asked>>,
}

#[derive(Debug, Default)]
struct Changing {
    status: Option<KnownStatus>,
    sessions: BTreeMap<u64, Arc<SessionEntry>>,
}

/// What an agent last told of its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStatus {
    /// SSH connections of users that are logged in.
    pub users: u32,
    /// Whether it stays when the last user leaves.
    pub is_held: bool,
    /// When the nearest clock ends it; none runs otherwise.
    pub expires: Option<Instant>,
    /// Which clock that is.
    pub clock: Option<String>,
}

/// Something the operator wants of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End, after telling users why.
    Stop(Line),
    /// Let nothing but the hard cap end the agent for so long.
    Extend(Duration),
    /// Show this to everybody who is logged in.
    Message(Line),
}

/// An action, and where the answer goes: `Err` with the agent's words when it was not done.
pub type Asked = (Action, oneshot::Sender<Result<(), Line>>);

/// Why an agent did not do what it was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// Its link is gone.
    #[error("the agent has gone")]
    Gone,
    /// Too much is being asked of it already.
    #[error("the agent has not answered what it was asked before; try again later")]
    Busy,
    /// It is too old to know such requests, or does not read them.
    #[error("the agent does not answer; it may be older than this relay")]
    NoAnswer,
    /// It said no.
    #[error("the agent says no: {0}")]
    Refused(Line),
}

impl AgentEntry {
    pub(super) fn new(agent: NewAgent, before: Option<&Self>) -> (Self, mpsc::Receiver<Box<Asked>>) {
        let (actions, asked) = mpsc::channel(MAX_WAITING_ACTIONS);
        let NewAgent { number, id, host_key, info, peer, grant } = agent;
        let carrier = peer.carrier;
        let load = |counter: fn(&Self) -> &AtomicU64| {
            before.map_or(0, |b| counter(b).load(Ordering::Relaxed)).into()
        };
        let entry = Self {
            number,
            id,
            host_key,
            info,
            carrier,
            peer,
            grant,
            since: before.map_or_else(SystemTime::now, |before| before.since),
            to_agent_bytes: load(|before| &before.to_agent_bytes),
            to_client_bytes: load(|before| &before.to_client_bytes),
            changing: Mutex::default(),
            actions,
        };
        if let Some(before) = before {
            entry.changing().status = before.status();
        }
        (entry, asked)
    }

    /// What it last told of its life; nothing before it has, or when it is too old to.
    pub fn status(&self) -> Option<KnownStatus> {
        self.changing().status.clone()
    }

    /// Its sessions through this relay, oldest first.
    pub fn sessions(&self) -> Vec<Arc<SessionEntry>> {
        self.changing().sessions.values().cloned().collect()
    }

    /// How many sessions it has.
    pub fn session_count(&self) -> usize {
        self.changing().sessions.len()
    }

    /// Bytes of all its sessions so far: to the agent, and to clients.
    pub fn bytes(&self) -> (u64, u64) {
        let ended =
            (self.to_agent_bytes.load(Ordering::Relaxed), self.to_client_bytes.load(Ordering::Relaxed));
        self.changing().sessions.values().fold(ended, |(to_agent, to_client), session| {
            (to_agent + session.traffic.to_agent_bytes(), to_client + session.traffic.to_client_bytes())
        })
    }

    /// Asks the agent for something, and waits for its answer.
    ///
    /// # Errors
    /// [`ActionError`] says why it was not done.
    pub async fn ask(&self, action: Action) -> Result<(), ActionError> {
        let (answer, answered) = oneshot::channel();
        self.actions.try_send(Box::new((action, answer))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ActionError::Busy,
            mpsc::error::TrySendError::Closed(_) => ActionError::Gone,
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer.map_err(ActionError::Refused),
            Ok(Err(_)) => Err(ActionError::Gone),
            Err(_) => Err(ActionError::NoAnswer),
        }
    }

    pub(super) fn add(&self, session: Arc<SessionEntry>) {
        self.changing().sessions.insert(session.number, session);
    }

    pub(super) fn remove(&self, session: &SessionEntry) {
        let mut changing = self.changing();
        if changing.sessions.remove(&session.number).is_some() {
            self.to_agent_bytes.fetch_add(session.traffic.to_agent_bytes(), Ordering::Relaxed);
            self.to_client_bytes.fetch_add(session.traffic.to_client_bytes(), Ordering::Relaxed);
        }
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent's place in the directory, held by the task of its link.
#[derive(Debug)]
pub struct AgentStay {
    directory: Directory,
    entry: Arc<AgentEntry>,
    asked: mpsc::Receiver<Box<Asked>>,
    has_moved: bool,
    reason: String,
}

impl AgentStay {
    pub(super) fn new(
        directory: Directory,
        entry: Arc<AgentEntry>,
        asked: mpsc::Receiver<Box<Asked>>,
        has_moved: bool,
    ) -> Self {
        Self { directory, entry, asked, has_moved, reason: "its link was lost".to_owned() }
    }

    /// Whether it was here already, on another link.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// What others see of it.
    pub fn entry(&self) -> &Arc<AgentEntry> {
        &self.entry
    }

    /// What is to be asked of the agent next. Cancel-safe.
    pub async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => *asked,
            // The entry holds a sender, and this holds the entry.
            None => std::future::pending().await,
        }
    }

    /// The agent has told how it is.
    pub fn tell_status(&self, status: &Status) {
        let known = KnownStatus {
            users: status.users,
            is_held: status.held,
            expires: status.expires().and_then(|left| Instant::now().checked_add(left)),
            clock: status.clock.as_ref().map(ToString::to_string),
        };
        self.entry.changing().status = Some(known);
        self.directory.journal.record(Happening::AgentStatus { id: self.entry.id.clone() });
    }

    /// The agent is warning its users.
    pub fn tell_warning(&self, warning: &ExpiryWarning) {
        self.directory.journal.record(Happening::AgentWarning {
            id: self.entry.id.clone(),
            remaining_ms: warning.remaining_ms,
            reason: warning.reason.to_string(),
        });
    }

    /// Why it goes, in words, before it does.
    pub fn because(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }
}

impl Drop for AgentStay {
    fn drop(&mut self) {
        self.directory.leave(&self.entry, &self.reason);
    }
}

//! What happens in an agent's life, for the event log and for hooks.

use crate::user::User;
use serde::Serialize;
use std::time::SystemTime;
use tokio::sync::mpsc;
use tracing::warn;

/// How many events may wait for their readers; more are dropped, and that is logged.
const MAX_WAITING: usize = 1024;

/// Something that happened. Its JSON form, with `event` naming the kind, is what the event log writes.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A session begins; nobody has logged in on it yet.
    SessionStarted {
        /// The session's ID in logs.
        session: String,
    },
    /// Somebody has logged in.
    Login {
        /// The session.
        session: String,
        /// Who.
        user: User,
    },
    /// A user runs something.
    Exec {
        /// The session.
        session: String,
        /// `shell`, `exec` or `sftp`.
        kind: &'static str,
        /// The command line, if there is one.
        command: Option<String>,
        /// Whether it runs on a terminal.
        terminal: bool,
    },
    /// A user forwards a connection, a listening port or a socket.
    Forward {
        /// The session.
        session: String,
        /// `local`, `remote`, `agent`; with a Unix socket `local_socket`, `remote_socket`.
        kind: &'static str,
        /// Where to, or what is listened on.
        target: String,
        /// Why not, when it was refused.
        refused: Option<String>,
    },
    /// A session has ended.
    SessionFinished {
        /// The session.
        session: String,
        /// Who, if somebody had logged in.
        user: Option<User>,
        /// How long it was there.
        seconds: f64,
        /// Why it ended.
        reason: String,
    },
    /// Users were warned that the agent will end.
    Warning {
        /// Which clock.
        reason: String,
        /// How long until then.
        remaining_seconds: u64,
    },
    /// The agent ends.
    AgentFinished {
        /// Why.
        reason: String,
        /// With which exit status.
        status: u8,
    },
}

/// An event and its time.
#[derive(Clone, Debug)]
pub struct TimedEvent {
    /// When.
    pub time: SystemTime,
    /// What.
    pub event: Event,
}

/// Takes events; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    sender: Option<mpsc::Sender<TimedEvent>>,
}

impl Events {
    /// Events, and who reads them.
    pub fn channel() -> (Self, mpsc::Receiver<TimedEvent>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self { sender: Some(sender) }, receiver)
    }

    /// Nobody reads.
    pub fn unread() -> Self {
        Self { sender: None }
    }

    /// Something happened, now. Never waits.
    pub fn emit(&self, event: Event) {
        let Some(sender) = &self.sender else { return };
        if sender.try_send(TimedEvent { time: SystemTime::now(), event }).is_err() {
            warn!("an event was dropped: too many wait to be written");
        }
    }
}

//! What happens in an agent's life, for the event log and for hooks.

use crate::{job::step::StepEnd, users::user::User};
use serde::{Serialize, Serializer};
use std::time::SystemTime;
use tokio::sync::mpsc;
use tracing::warn;

pub mod dispatch;
pub mod hooks;
pub mod log;

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
    /// The step that the agent ran has ended.
    StepFinished {
        /// Its command line, as text for people.
        command: String,
        /// Its exit status, as a shell reports it.
        status: u8,
        /// The number of the signal that ended it.
        signal: Option<i32>,
        /// Whether the agent was told to stop meanwhile.
        told_to_stop: bool,
        /// How long it ran.
        seconds: f64,
    },
    /// The agent ends.
    AgentFinished {
        /// Why.
        reason: String,
        /// With which exit status.
        status: u8,
    },
}

impl Event {
    /// The kind, as `event` in the JSON form names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionStarted { .. } => "session_started",
            Self::Login { .. } => "login",
            Self::Exec { .. } => "exec",
            Self::Forward { .. } => "forward",
            Self::SessionFinished { .. } => "session_finished",
            Self::Warning { .. } => "warning",
            Self::StepFinished { .. } => "step_finished",
            Self::AgentFinished { .. } => "agent_finished",
        }
    }
}

impl From<&StepEnd> for Event {
    fn from(end: &StepEnd) -> Self {
        Self::StepFinished {
            command: end.command.to_string(),
            status: end.exit_code,
            signal: end.signal,
            told_to_stop: end.is_told_to_stop(),
            seconds: end.duration.as_secs_f64(),
        }
    }
}

/// An event and its time. The JSON form is that of the event with `time` in front, in UTC as RFC 3339 has it, with
/// milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct TimedEvent {
    /// When.
    #[serde(serialize_with = "as_rfc_3339")]
    pub time: SystemTime,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl TimedEvent {
    /// The JSON form on one line, with the newline.
    pub fn to_json_line(&self) -> String {
        // Cannot fail: the keys are strings, and nothing else in it can.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

fn as_rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn json_is_one_line_with_the_time_in_front() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_257_913_007);
        let event = Event::AgentFinished { reason: "a\n\u{1b}\"".into(), status: 3 };
        assert_eq!(
            TimedEvent { time, event }.to_json_line(),
            "{\"time\":\"2026-11-21T10:45:13.007Z\",\"event\":\"agent_finished\",\
             \"reason\":\"a\\n\\u001b\\\"\",\"status\":3}\n"
        );
    }

    #[test]
    fn kind_is_what_the_json_form_says() {
        let user = User { login: "x".into(), key: "k".into(), comment: String::new(), source: "s".into() };
        let session = || "1".to_owned();
        for event in [
            Event::SessionStarted { session: session() },
            Event::Login { session: session(), user },
            Event::Exec { session: session(), kind: "exec", command: None, terminal: false },
            Event::Forward { session: session(), kind: "local", target: "x:1".into(), refused: None },
            Event::SessionFinished { session: session(), user: None, seconds: 1.5, reason: "end".into() },
            Event::Warning { reason: "idle".into(), remaining_seconds: 60 },
            Event::StepFinished {
                command: "false".into(),
                status: 1,
                signal: None,
                told_to_stop: false,
                seconds: 0.1,
            },
            Event::AgentFinished { reason: "end".into(), status: 0 },
        ] {
            assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.kind());
        }
    }
}

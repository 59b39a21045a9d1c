//! What is said over the control socket.

use crate::job::step::StepCommand;
use serde::{Deserialize, Serialize};

/// A request and where it comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The session from which it is asked, if it is one: `$CONVERGE_SESSION`.
    #[serde(default)]
    pub session: Option<String>,
    /// What is asked.
    pub request: Request,
}

/// What can be asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How things are.
    Status,
    /// More time.
    Extend {
        /// How much, from now.
        seconds: u64,
    },
    /// Stay when the last user leaves.
    Hold {
        /// Also count as activity so far ahead.
        seconds: Option<u64>,
    },
    /// Take a hold back.
    Release,
    /// End, and let the job go on as if nothing had failed.
    Resume,
    /// End with this status.
    Fail {
        /// 0 to 255.
        status: u8,
    },
    /// Which command was run, to run it again.
    Step,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `status`, and to everything that changes what it says.
    Status(Box<Status>),
    /// To `step`.
    Step(StepCommand),
    /// It is done; the agent ends.
    Ending,
    /// It cannot be done.
    Error {
        /// Why, for people.
        message: String,
    },
}

/// How an agent is. Its JSON form is what `converge-agent status --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The ID under which it can be reached; none before it is registered.
    pub id: Option<String>,
    /// What a person gives to `converge ssh`.
    pub address: Option<String>,
    /// What the job is.
    pub job: String,
    /// Where to read about it.
    pub job_url: Option<String>,
    /// Who is there.
    pub users: Vec<StatusUser>,
    /// Whether it stays when the last user leaves.
    pub held: bool,
    /// What ends it first, as things are.
    pub ends: Option<StatusEnd>,
    /// The command that was run before, and how it ended.
    pub step: Option<String>,
}

/// Somebody who is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusUser {
    /// How others see them.
    pub name: String,
    /// The name they gave to ssh.
    pub login: String,
    /// The fingerprint of their key.
    pub key: String,
    /// Their session.
    pub session: String,
    /// Whether it is the one that asks.
    pub you: bool,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// A clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusEnd {
    /// `first`, `idle` or `lifetime`.
    pub clock: String,
    /// How long until then.
    pub seconds: u64,
}

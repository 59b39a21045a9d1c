//! What can go wrong for a person, in words and as exit status.

use converge_proto::{Fingerprint, rendezvous::RefusalCode, session::SessionError};
use converge_transport::{DialError, StreamError};
use std::time::Duration;

/// The exit status of the client where it does not run ssh, whose own status it then is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// All is well.
    Success = 0,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// No agent has this ID.
    NoSuchId = 3,
    /// The relay cannot be reached, or is not what it should be.
    Unreachable = 4,
    /// The relay or the agent said no.
    Refused = 5,
    /// The agent's host key is not the one in the address.
    HostKeyMismatch = 6,
    /// The session was lost for good.
    Lost = 7,
}

/// What a command met. Prints as `what happened: why; what to do`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The command line or the configuration makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No agent has this ID.
    #[error(
        "{text}: the job has not started its agent yet, or is over; check the ID, or wait for it with --wait 10m"
    )]
    NoSuchId {
        /// The relay's words.
        text: String,
    },
    /// The relay cannot be reached.
    #[error("cannot connect to the relay: {error}; {}", error.advice())]
    Dial {
        /// What happened.
        error: DialError,
    },
    /// The relay said no.
    #[error("the relay refuses the session: {text} ({code})")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
    /// The agent's host key is not the one in the address.
    #[error(
        "the host key does not match: the address says {expected}, the agent that answers has {seen}; \
         copy the address again from the job's log, and if it is right do not trust this relay"
    )]
    HostKeyMismatch {
        /// From the address.
        expected: Fingerprint,
        /// Of the key that the relay named.
        seen: Fingerprint,
    },
    /// The relay's API said no.
    #[error("{detail}; {advice}")]
    Api {
        /// The status of the answer.
        status: u16,
        /// What happened.
        detail: String,
        /// What to do about it.
        advice: String,
    },
    /// The relay's API broke off.
    #[error("the relay does not answer: {0}; try again")]
    ApiBroken(String),
    /// Some of what was asked for was not done; each was said.
    #[error("{failed} of {all} were not done")]
    Several {
        /// How many were not.
        failed: usize,
        /// Of how many.
        all: usize,
        /// What to exit with.
        status: ExitStatus,
    },
    /// The session broke.
    #[error("the session was cut: {0}; connect again")]
    Lost(#[from] StreamError),
    /// The relay knows the agent, and the agent does not answer.
    #[error("the agent does not answer: its network may be down, or the job is stuck; try again in a minute")]
    AgentSilent,
    /// The session was over before its end.
    #[error("the session has ended: {error}; connect again")]
    SessionOver {
        /// Why.
        error: SessionError,
    },
    /// The network, the relay or the agent has been away for longer than a session is kept.
    #[error("the session is lost: no way to the agent for {} ({last}); connect again", humantime::format_duration(*after))]
    LostForGood {
        /// How long it was tried.
        after: Duration,
        /// What the last try met.
        last: Box<ClientError>,
    },
    /// Another agent has the ID by now.
    #[error(
        "the session is lost: an agent with another host key has the ID now; copy the address again from the job's log"
    )]
    AnotherAgent,
    /// This machine failed.
    #[error("{what}: {source}")]
    Local {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl ClientError {
    /// A failure of this machine while doing `what`.
    pub fn local(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Local { what, source }
    }

    /// What to exit with when the API has answered so.
    pub fn of_api(status: u16) -> ExitStatus {
        match status {
            404 => ExitStatus::NoSuchId,
            500 | 502 | 503 => ExitStatus::Unreachable,
            _ => ExitStatus::Refused,
        }
    }

    /// What to exit with.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_) | Self::Local { .. } => ExitStatus::Usage,
            Self::NoSuchId { .. } | Self::Dial { error: DialError::NoSuchId } => ExitStatus::NoSuchId,
            Self::Dial { error: DialError::NotAdmitted(_) } => ExitStatus::Refused,
            Self::Dial { .. } | Self::ApiBroken(_) => ExitStatus::Unreachable,
            Self::Api { status, .. } => Self::of_api(*status),
            Self::Several { status, .. } => *status,
            Self::Refused { code, .. } => match *code {
                RefusalCode::NO_SUCH_ID => ExitStatus::NoSuchId,
                RefusalCode::STOPPING => ExitStatus::Unreachable,
                RefusalCode::AGENT_LOST | RefusalCode::NO_SUCH_SESSION | RefusalCode::EXPIRED => {
                    ExitStatus::Lost
                }
                _ => ExitStatus::Refused,
            },
            Self::HostKeyMismatch { .. } => ExitStatus::HostKeyMismatch,
            Self::Lost(_)
            | Self::AgentSilent
            | Self::SessionOver { .. }
            | Self::LostForGood { .. }
            | Self::AnotherAgent => ExitStatus::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_has_the_promised_status() {
        let refused = |code| ClientError::Refused { code, text: String::new() }.exit_status() as u8;
        assert_eq!(ClientError::Usage(String::new()).exit_status() as u8, 2);
        assert_eq!(refused(RefusalCode::NO_SUCH_ID), 3);
        assert_eq!(refused(RefusalCode::STOPPING), 4);
        assert_eq!(refused(RefusalCode::LIMIT), 5);
        assert_eq!(refused(RefusalCode::UNSUPPORTED), 5);
        assert_eq!(refused(RefusalCode::UNAUTHORIZED), 5);
        assert_eq!(refused(RefusalCode::FORBIDDEN), 5);
        assert_eq!(refused(RefusalCode::AGENT_LOST), 7);
        let api = |status| ClientError::of_api(status) as u8;
        assert_eq!([404, 401, 409, 429, 503, 504].map(api), [3, 5, 5, 5, 4, 5]);
        assert_eq!(ClientError::Lost(StreamError::EndInsideFrame).exit_status() as u8, 7);
    }
}

//! What users are told while they are connected.

use converge_proto::{
    rendezvous::messages::Line,
    session::{self, Severity},
};
use std::time::Duration;

/// One line for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How urgent.
    pub severity: Severity,
    /// What it is, without anything that controls a terminal.
    pub text: String,
    /// When what it announces will happen, from now.
    pub remaining: Option<Duration>,
    /// The session that caused it and need not be told.
    pub not_for: Option<String>,
}

impl Notice {
    /// Good to know.
    pub fn info(text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, text: text.into(), remaining: None, not_for: None }
    }

    /// Something will happen unless somebody does something.
    pub fn warning(text: impl Into<String>, remaining: Option<Duration>) -> Self {
        Self { severity: Severity::Warning, text: text.into(), remaining, not_for: None }
    }

    /// For everybody but this session.
    #[must_use]
    pub fn not_for(mut self, session: impl Into<String>) -> Self {
        self.not_for = Some(session.into());
        self
    }

    /// Whether this session is to be told.
    pub fn is_for(&self, session: &str) -> bool {
        self.not_for.as_deref() != Some(session)
    }

    /// As the session layer carries it to a client.
    pub fn to_session(&self) -> session::Notice {
        let remaining_ms = self.remaining.map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
        session::Notice { severity: self.severity, text: Line::new(&self.text), remaining_ms }
    }
}

//! What was checked and what was seen.

use super::Verdict;
use converge_proto::RelayUrl;
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// Everything that was found out on the way to a relay. Prints as a table of less than 100 columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The relay that was probed.
    pub relay: RelayUrl,
    /// One for each of [`CheckName::ALL`], in that order.
    pub checks: Vec<Check>,
    /// What it comes to.
    pub verdict: Verdict,
}

impl Report {
    pub(super) fn new(relay: RelayUrl, checks: Vec<Check>) -> Self {
        let verdict = Verdict::of(relay.carriers(), &checks);
        Self { relay, checks, verdict }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Of what.
    pub name: CheckName,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What was seen, or why the check was left out.
    pub seen: String,
    /// What to do about it: with every failure and every warning.
    pub fix: Option<String>,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The relay's name leads to addresses.
    Dns,
    /// The proxy that is in force for WebSocket can be used.
    Proxy,
    /// QUIC's handshake, which is with a relay and with the right one.
    Quic,
    /// The size of packets that get through on QUIC.
    Mtu,
    /// A TCP connection to the relay, through the proxy if there is one.
    Tcp,
    /// TLS on it, with the right relay.
    Tls,
    /// The opening handshake of a WebSocket.
    WebSocket,
    /// This machine's clock beside the relay's: certificates are valid for a time.
    Clock,
    /// The protocol version that both sides speak.
    Version,
}

impl CheckName {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Proxy,
        Self::Quic,
        Self::Mtu,
        Self::Tcp,
        Self::Tls,
        Self::WebSocket,
        Self::Clock,
        Self::Version,
    ];
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Quic => "quic",
            Self::Mtu => "mtu",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::Clock => "clock",
            Self::Version => "version",
        })
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// It works, but something is not as it should be.
    Warn,
    /// It does not work.
    Fail,
    /// Not checked: something before it failed, or it does not apply.
    Skip,
}

impl Outcome {
    /// Whether what was checked works.
    pub fn works(self) -> bool {
        matches!(self, Self::Pass | Self::Warn)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        })
    }
}

/// How a check went, before it is known how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    outcome: Outcome,
    seen: String,
    fix: Option<String>,
}

impl Finding {
    pub(super) fn pass(seen: impl Into<String>) -> Self {
        Self { outcome: Outcome::Pass, seen: seen.into(), fix: None }
    }

    pub(super) fn warn(seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, seen: seen.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, seen: seen.into(), fix: Some(fix.into()) }
    }

    pub(super) fn skip(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skip, seen: why.into(), fix: None }
    }

    /// The check that began then and is over now.
    pub(super) fn since(self, name: CheckName, begun: Instant) -> Check {
        Check { took: begun.elapsed(), ..self.at_once(name) }
    }

    /// The check that needed no time.
    pub(super) fn at_once(self, name: CheckName) -> Check {
        let Self { outcome, seen, fix } = self;
        Check { name, outcome, took: Duration::ZERO, seen, fix }
    }
}

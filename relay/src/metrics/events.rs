//! What happens, counted where it happens.

use super::{
    Metrics,
    catalogue::{
        self, BYTES, CARRIER_RACES, CONNECTS, FORWARDED_BYTES, HANDSHAKE_FAILURES, HANDSHAKE_SECONDS,
        HTTP_REQUESTS, PAIRING_SECONDS, REGISTRATIONS, RESUMES, SESSION_ENDS, SESSION_SECONDS,
    },
};
use axum::http::StatusCode;
use converge_proto::rendezvous::RefusalCode;
use converge_transport::{Carrier, Direction};
use metrics::Counter;
use std::time::Duration;

/// How a session ended here. One that was cut may go on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides had said all.
    Done,
    /// A stream broke.
    Cut,
    /// The agent's link broke.
    AgentLost,
    /// The relay has stopped, or is about to.
    RelayStopped,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cut => "cut",
            Self::AgentLost => "agent_lost",
            Self::RelayStopped => "relay_stopped",
        }
    }
}

/// Who secures a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secured {
    /// QUIC's own TLS.
    Quic,
    /// TLS over TCP.
    Tls,
}

impl Secured {
    fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
        }
    }
}

impl Metrics {
    /// A TLS handshake has succeeded.
    pub(crate) fn handshake(&self, by: Secured, took: Duration) {
        self.histogram(&HANDSHAKE_SECONDS, &[by.name()]).record(took);
    }

    /// A TLS handshake has failed, or the peer has gone silent in it.
    pub(crate) fn handshake_failed(&self, by: Secured, was_silent: bool) {
        self.count(&HANDSHAKE_FAILURES, &[by.name(), if was_silent { "silent" } else { "failed" }]);
    }

    /// An agent is here; `has_moved`: it was before, on another link.
    pub(crate) fn registered(&self, carrier: Carrier, has_moved: bool, fell_back: Option<bool>) {
        self.count(&REGISTRATIONS, &[carrier.name(), if has_moved { "moved" } else { "registered" }]);
        self.raced("agent", fell_back);
    }

    /// An agent was refused.
    pub(crate) fn registration_refused(&self, carrier: Carrier, code: RefusalCode) {
        self.count(&REGISTRATIONS, &[carrier.name(), catalogue::refused(code)]);
    }

    /// A client has its session, so long after it had asked for an agent that was there; nothing where it is not known since
    /// when that was.
    pub(crate) fn connected(
        &self,
        carrier: Carrier,
        is_resumed: bool,
        fell_back: Option<bool>,
        took: Option<Duration>,
    ) {
        self.count(&CONNECTS, &[carrier.name(), "connected"]);
        if let Some(took) = took {
            self.histogram(&PAIRING_SECONDS, &[carrier.name()]).record(took);
        }
        if is_resumed {
            self.count(&RESUMES, &[carrier.name()]);
        }
        self.raced("client", fell_back);
    }

    /// A client was refused.
    pub(crate) fn connect_refused(&self, carrier: Carrier, code: RefusalCode) {
        self.count(&CONNECTS, &[carrier.name(), catalogue::refused(code)]);
    }

    /// For a session that goes on to another relay.
    pub(crate) fn forwarding(&self) -> ForwardCounters {
        let bytes = |direction| self.counter(&FORWARDED_BYTES, &[direction]);
        ForwardCounters { to_agent: bytes("to_agent"), to_client: bytes("to_client") }
    }

    fn raced(&self, role: &'static str, fell_back: Option<bool>) {
        if let Some(fell_back) = fell_back {
            let winner = if fell_back { Carrier::WebSocket } else { Carrier::Quic };
            self.count(&CARRIER_RACES, &[role, winner.name()]);
        }
    }

    /// An HTTP request was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = match status.as_u16() {
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.count(&HTTP_REQUESTS, &[class]);
    }
}

/// The counters of what goes on to other relays.
#[derive(Debug)]
pub(crate) struct ForwardCounters {
    to_agent: Counter,
    to_client: Counter,
}

impl ForwardCounters {
    pub(crate) fn passed(&self, direction: Direction, bytes: usize) {
        match direction {
            Direction::Forward => self.to_agent.increment(bytes as u64),
            Direction::Backward => self.to_client.increment(bytes as u64),
        }
    }
}

/// The counters of one session, at hand for each of its chunks.
#[derive(Debug)]
pub(crate) struct SessionCounters<'a> {
    metrics: &'a Metrics,
    carrier: Carrier,
    to_agent: Counter,
    to_client: Counter,
}

impl<'a> SessionCounters<'a> {
    pub(crate) fn new(metrics: &'a Metrics, carrier: Carrier) -> Self {
        let bytes = |direction| metrics.counter(&BYTES, &[carrier.name(), direction]);
        Self { metrics, carrier, to_agent: bytes("to_agent"), to_client: bytes("to_client") }
    }

    pub(crate) fn passed(&self, direction: Direction, bytes: usize) {
        match direction {
            Direction::Forward => self.to_agent.increment(bytes as u64),
            Direction::Backward => self.to_client.increment(bytes as u64),
        }
    }

    pub(crate) fn ended(&self, end: End, lasted: Duration) {
        self.metrics.count(&SESSION_ENDS, &[end.name()]);
        self.metrics.histogram(&SESSION_SECONDS, &[self.carrier.name()]).record(lasted);
    }
}

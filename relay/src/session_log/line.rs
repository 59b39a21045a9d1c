//! One line of the session log. `docs/operating/metrics.md` describes its fields.

use crate::directory::{AgentEntry, SessionEntry};
use converge_proto::{Text, rendezvous::SessionKind};
use serde::Serialize;
use std::time::SystemTime;

/// A session that begins or has ended. What is not known is not there.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Of this line, RFC 3339 with milliseconds.
    time: String,
    event: &'static str,
    /// The relay's number, the same in the agent's log.
    session: u64,
    id: &'a str,
    /// Of the agent's host key.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// What the agent says of its job; not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    /// What the CI system has signed: whose job it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address: Option<String>,
    /// What the client says it is; not verified.
    client_software: &'a str,
    /// The name of the token that the client has shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_token: Option<&'a str>,
    carrier: &'static str,
    kind: &'static str,
    /// Whether it was there before, on another stream.
    resumed: bool,
    #[serde(flatten)]
    end: Option<End<'a>>,
}

#[derive(Debug, Serialize)]
struct End<'a> {
    /// Since the session's line before this.
    seconds: f64,
    to_agent_bytes: u64,
    to_client_bytes: u64,
    reason: &'a str,
}

impl<'a> Line<'a> {
    pub(super) fn began(
        session: &'a SessionEntry,
        agent: Option<&'a AgentEntry>,
        has_addresses: bool,
    ) -> Self {
        Self::new("session_began", session, agent, has_addresses)
    }

    pub(super) fn ended(
        session: &'a SessionEntry,
        agent: Option<&'a AgentEntry>,
        has_addresses: bool,
        reason: &'a str,
    ) -> Self {
        let end = End {
            seconds: session.began.elapsed().as_secs_f64(),
            to_agent_bytes: session.traffic.to_agent_bytes(),
            to_client_bytes: session.traffic.to_client_bytes(),
            reason,
        };
        Self { end: Some(end), ..Self::new("session_ended", session, agent, has_addresses) }
    }

    fn new(
        event: &'static str,
        session: &'a SessionEntry,
        agent: Option<&'a AgentEntry>,
        has_addresses: bool,
    ) -> Self {
        let address = |address: std::net::SocketAddr| has_addresses.then(|| address.to_string());
        Self {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event,
            session: session.number,
            id: session.id.as_str(),
            fingerprint: agent.map(|agent| agent.host_key.fingerprint().to_string()),
            job: agent.and_then(|agent| agent.info.job.as_ref()).map(Text::as_str),
            verified_job: agent.and_then(|agent| agent.grant.claims.as_ref()).map(ToString::to_string),
            agent_address: agent.and_then(|agent| address(agent.peer.address)),
            client_address: address(session.peer.address),
            client_software: session.software.as_str(),
            client_token: session.token.as_deref(),
            carrier: session.peer.carrier.name(),
            kind: match session.kind {
                SessionKind::Raw => "raw",
                SessionKind::Resumable => "resumable",
                SessionKind::Other(_) => "other",
            },
            resumed: session.is_resumed,
            end: None,
        }
    }
}

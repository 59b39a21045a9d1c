//! One session, as the relay knows it: who, since when, how many bytes.

use super::{AgentEntry, Directory};
use crate::peer::Peer;
use converge_proto::{
    Id,
    rendezvous::{SessionKind, messages::Name},
};
use converge_transport::{Direction, Meter};
use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

/// A session that begins.
#[derive(Debug)]
pub struct NewSession {
    /// The relay's number for it, the same in the agent's log.
    pub number: u64,
    /// The agent's ID.
    pub id: Id,
    /// What its bytes are.
    pub kind: SessionKind,
    /// The client's program, as it says.
    pub software: Name,
    /// Where the client comes from.
    pub peer: Peer,
    /// The name of the token that the client was let in by, if it was one.
    pub token: Option<String>,
    /// Whether it was there before, on another stream, as the client says.
    pub is_resumed: bool,
}

/// A session through this relay. A resumable one that comes back after an outage is another entry.
#[derive(Debug)]
pub struct SessionEntry {
    /// The relay's number for it, the same in the agent's log.
    pub number: u64,
    /// The agent's ID.
    pub id: Id,
    /// What its bytes are.
    pub kind: SessionKind,
    /// The client's program, as it says; not verified.
    pub software: Name,
    /// Where the client comes from.
    pub peer: Peer,
    /// The name of the token that the client was let in by, if it was one.
    pub token: Option<String>,
    /// Whether it was there before, on another stream, as the client says; not verified.
    pub is_resumed: bool,
    /// Since when.
    pub since: SystemTime,
    /// The same, for measuring.
    pub began: Instant,
    /// What has gone through so far.
    pub traffic: Traffic,
}

impl SessionEntry {
    pub(super) fn new(session: NewSession) -> Self {
        let NewSession { number, id, kind, software, peer, token, is_resumed } = session;
        let (since, began, traffic) = (SystemTime::now(), Instant::now(), Traffic::default());
        Self { number, id, kind, software, peer, token, is_resumed, since, began, traffic }
    }
}

/// Bytes each way.
#[derive(Debug, Default)]
pub struct Traffic {
    to_agent: AtomicU64,
    to_client: AtomicU64,
}

impl Traffic {
    /// From the client to the agent.
    pub fn to_agent_bytes(&self) -> u64 {
        self.to_agent.load(Ordering::Relaxed)
    }

    /// From the agent to the client.
    pub fn to_client_bytes(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }
}

/// The client's stream is the first, the agent's the second.
impl Meter for Traffic {
    fn pass(&self, direction: Direction, bytes: usize) -> impl Future<Output = ()> + Send {
        let counter = match direction {
            Direction::Forward => &self.to_agent,
            Direction::Backward => &self.to_client,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        ready(())
    }
}

/// A session's place in the directory, held by the task that copies its bytes.
#[derive(Debug)]
pub struct SessionStay {
    directory: Directory,
    entry: Arc<SessionEntry>,
    agent: Option<Arc<AgentEntry>>,
    reason: String,
}

impl SessionStay {
    pub(super) fn new(
        directory: Directory,
        entry: Arc<SessionEntry>,
        agent: Option<Arc<AgentEntry>>,
    ) -> Self {
        Self { directory, entry, agent, reason: "it was dropped".to_owned() }
    }

    /// What others see of it.
    pub fn entry(&self) -> &Arc<SessionEntry> {
        &self.entry
    }

    /// Why it ends, in words, before it does.
    pub fn because(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }
}

impl Drop for SessionStay {
    fn drop(&mut self) {
        self.directory.end(&self.entry, self.agent.as_deref(), &self.reason);
    }
}

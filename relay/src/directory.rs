//! What the relay knows of its agents and sessions at this moment, and a journal of what happened to them.
//!
//! Whatever shows or counts them (pages, API, metrics, logs) looks here and nowhere else. Addresses and names in it are
//! for operators: what is shown to whom is decided where it is shown. Nothing here knows what is inside a session.

mod agent;
mod journal;
mod session;

pub use agent::{Action, ActionError, AgentEntry, AgentStay, Asked, KnownStatus, NewAgent};
pub use journal::{Event, Happening, Journal, Page};
pub use session::{NewSession, SessionEntry, SessionStay, Traffic};

use crate::session_log::SessionLog;
use converge_proto::Id;
use converge_transport::Carrier;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The agents and sessions of one relay. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    state: Arc<Mutex<State>>,
    journal: Journal,
    session_log: SessionLog,
}

#[derive(Debug, Default)]
struct State {
    agents: BTreeMap<Id, Arc<AgentEntry>>,
    sessions: BTreeMap<u64, Arc<SessionEntry>>,
}

/// How many there are, by carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Population {
    /// Agents on QUIC, and on WebSocket.
    agents: [usize; 2],
    /// Sessions whose client is on QUIC, and on WebSocket.
    sessions: [usize; 2],
}

impl Population {
    /// Agents.
    pub fn agents_on(&self, carrier: Carrier) -> usize {
        let [quic, websocket] = self.agents;
        if carrier == Carrier::Quic { quic } else { websocket }
    }

    /// Sessions, by the carrier of the client.
    pub fn sessions_on(&self, carrier: Carrier) -> usize {
        let [quic, websocket] = self.sessions;
        if carrier == Carrier::Quic { quic } else { websocket }
    }
}

impl Directory {
    /// One that writes this log.
    pub(crate) fn with_log(session_log: SessionLog) -> Self {
        Self { session_log, ..Self::default() }
    }

    /// Where sessions are written down.
    pub(crate) fn session_log(&self) -> &SessionLog {
        &self.session_log
    }

    /// What happened, in order.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How many agents are here, and how many sessions.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.agents.len(), state.sessions.len())
    }

    /// The same by carrier. Looks at each of them.
    pub fn population(&self) -> Population {
        let state = self.state();
        let split = |carriers: &mut dyn Iterator<Item = Carrier>| {
            let (quic, websocket): (Vec<_>, Vec<_>) = carriers.partition(|carrier| *carrier == Carrier::Quic);
            [quic.len(), websocket.len()]
        };
        Population {
            agents: split(&mut state.agents.values().map(|agent| agent.carrier)),
            sessions: split(&mut state.sessions.values().map(|session| session.peer.carrier)),
        }
    }

    /// The agent that has this ID now.
    pub fn agent(&self, id: &Id) -> Option<Arc<AgentEntry>> {
        self.state().agents.get(id).cloned()
    }

    /// At most `limit` agents in the order of their IDs, from the first one behind `after`.
    pub fn agents(&self, after: Option<&Id>, limit: usize) -> Vec<Arc<AgentEntry>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.state()
            .agents
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, agent)| agent.clone())
            .collect()
    }

    /// The session of this number, while it lasts.
    pub fn session(&self, number: u64) -> Option<Arc<SessionEntry>> {
        self.state().sessions.get(&number).cloned()
    }

    /// At most `limit` sessions in the order in which they began, from the first one behind `after`.
    pub fn sessions(&self, after: Option<u64>, limit: usize) -> Vec<Arc<SessionEntry>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        state
            .sessions
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, session)| session.clone())
            .collect()
    }

    /// An agent is here, or its next link is. It has gone when the returned value is dropped, unless another link of
    /// the same agent has taken its place.
    pub fn enter(&self, agent: NewAgent) -> AgentStay {
        let mut state = self.state();
        let before = state.agents.get(&agent.id).filter(|before| before.host_key == agent.host_key).cloned();
        let is_new = before.is_none();
        let (entry, asked) = AgentEntry::new(agent, before.as_deref());
        let entry = Arc::new(entry);
        state.agents.insert(entry.id.clone(), entry.clone());
        let (id, carrier) = (entry.id.clone(), entry.carrier);
        self.journal.record(if is_new {
            Happening::AgentRegistered { id, carrier }
        } else {
            Happening::AgentMoved { id, carrier }
        });
        drop(state);
        AgentStay::new(self.clone(), entry, asked, !is_new)
    }

    /// A session begins; it has ended when the returned value is dropped.
    pub fn begin(&self, session: NewSession) -> SessionStay {
        let mut state = self.state();
        let agent = state.agents.get(&session.id).cloned();
        let entry = Arc::new(SessionEntry::new(session));
        state.sessions.insert(entry.number, entry.clone());
        if let Some(agent) = &agent {
            agent.add(entry.clone());
        }
        let (session, id, carrier) = (entry.number, entry.id.clone(), entry.peer.carrier);
        self.journal.record(Happening::SessionBegan { session, id, carrier });
        drop(state);
        self.session_log.began(&entry, agent.as_deref());
        SessionStay::new(self.clone(), entry, agent)
    }

    fn leave(&self, agent: &AgentEntry, reason: &str) {
        let mut state = self.state();
        let is_it = |there: &Arc<AgentEntry>| there.number == agent.number;
        if state.agents.get(&agent.id).is_some_and(is_it) {
            state.agents.remove(&agent.id);
            self.journal.record(Happening::AgentGone { id: agent.id.clone(), reason: reason.to_owned() });
        }
    }

    fn end(&self, session: &SessionEntry, agent: Option<&AgentEntry>, reason: &str) {
        let mut state = self.state();
        state.sessions.remove(&session.number);
        if let Some(agent) = agent {
            agent.remove(session);
        }
        self.journal.record(Happening::SessionEnded {
            session: session.number,
            id: session.id.clone(),
            to_agent_bytes: session.traffic.to_agent_bytes(),
            to_client_bytes: session.traffic.to_client_bytes(),
            milliseconds: u64::try_from(session.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason: reason.to_owned(),
        });
        drop(state);
        self.session_log.ended(session, agent, reason);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

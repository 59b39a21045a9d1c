//! What happened to agents and sessions, numbered, the latest part of it kept.

use converge_proto::Id;
use converge_transport::Carrier;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tokio::sync::watch;

/// Events that are kept; older ones are forgotten.
const MAX_EVENTS: usize = 8192;

/// What happened, in order. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    events: Arc<Mutex<VecDeque<Arc<Event>>>>,
    /// The number of the latest event; 0 before the first.
    latest: watch::Sender<u64>,
}

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// From 1, without gaps, as long as the relay runs.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// An agent is here.
    AgentRegistered {
        /// Its ID.
        id: Id,
        /// What its link runs on.
        carrier: Carrier,
    },
    /// An agent goes on over another link.
    AgentMoved {
        /// Its ID.
        id: Id,
        /// What the new link runs on.
        carrier: Carrier,
    },
    /// What an agent tells of its life has changed; the directory has it.
    AgentStatus {
        /// Its ID.
        id: Id,
    },
    /// An agent warns its users.
    AgentWarning {
        /// Its ID.
        id: Id,
        /// Milliseconds until it ends.
        remaining_ms: u64,
        /// Why it ends.
        reason: String,
    },
    /// An agent has gone.
    AgentGone {
        /// Its ID.
        id: Id,
        /// Why, in words.
        reason: String,
    },
    /// A session begins.
    SessionBegan {
        /// Its number.
        session: u64,
        /// The agent's ID.
        id: Id,
        /// What the client's link runs on.
        carrier: Carrier,
    },
    /// A session has ended.
    SessionEnded {
        /// Its number.
        session: u64,
        /// The agent's ID.
        id: Id,
        /// Bytes from the client to the agent.
        to_agent_bytes: u64,
        /// Bytes from the agent to the client.
        to_client_bytes: u64,
        /// How long it lasted.
        milliseconds: u64,
        /// Why it ended, in words.
        reason: String,
    },
}

impl Happening {
    /// The ID of the agent it is about.
    pub fn id(&self) -> &Id {
        match self {
            Self::AgentRegistered { id, .. }
            | Self::AgentMoved { id, .. }
            | Self::AgentStatus { id }
            | Self::AgentWarning { id, .. }
            | Self::AgentGone { id, .. }
            | Self::SessionBegan { id, .. }
            | Self::SessionEnded { id, .. } => id,
        }
    }
}

/// A part of the journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub events: Vec<Arc<Event>>,
    /// Whether events before these, that were asked for, are forgotten: look at the directory instead.
    pub has_gap: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self { events: Arc::default(), latest: watch::Sender::new(0) }
    }
}

impl Journal {
    /// The number of the latest event, and a way to wait for the next.
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// At most `limit` events behind number `after`. A number from the future is one of another relay, or of this one
    /// before it was started again: that is a gap too.
    pub fn since(&self, after: u64, limit: usize) -> Page {
        let events = self.events();
        let latest = events.back().map_or(0, |event| event.number);
        let first = events.front().map_or(1, |event| event.number);
        let has_gap = after > latest || after + 1 < first;
        let skip = if after > latest { 0 } else { (after + 1).saturating_sub(first) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Page { events: events.iter().skip(skip).take(limit).cloned().collect(), has_gap }
    }

    pub(super) fn record(&self, what: Happening) {
        let mut events = self.events();
        let number = events.back().map_or(0, |event| event.number) + 1;
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(Arc::new(Event { number, at: SystemTime::now(), what }));
        // Inside the lock, so that numbers are told in order.
        self.latest.send_replace(number);
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening() -> Happening {
        Happening::AgentStatus { id: "build".parse().unwrap() }
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn events_are_numbered_and_told_from_any_number_on() {
        let journal = Journal::default();
        let latest = journal.latest();
        assert_eq!(journal.since(0, 10), Page { events: vec![], has_gap: false });
        (0..3).for_each(|_| journal.record(happening()));
        assert_eq!(*latest.borrow(), 3);
        assert_eq!(numbers(&journal.since(0, 10)), [1, 2, 3]);
        assert_eq!(numbers(&journal.since(1, 1)), [2]);
        assert_eq!(numbers(&journal.since(3, 10)), [0; 0]);
        assert!(!journal.since(3, 10).has_gap);
    }

    #[test]
    fn what_is_forgotten_and_what_has_never_been_are_gaps() {
        let journal = Journal::default();
        (0..MAX_EVENTS + 2).for_each(|_| journal.record(happening()));
        assert!(journal.since(1, 1).has_gap, "2 is forgotten");
        assert!(!journal.since(2, 1).has_gap, "3 is the first that is kept");
        let future = journal.since(u64::MAX, 1);
        assert_eq!((future.has_gap, numbers(&future)), (true, vec![3]));
    }
}

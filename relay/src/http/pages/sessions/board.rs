//! A row for each agent, kept up to date by the directory's journal.

use super::{
    relays::RelayLine,
    row::{Row, Shows},
};
use crate::directory::Directory;
use converge_proto::{Id, RelayNumber};
use std::{collections::BTreeSet, sync::Arc};

/// Events, agents or sessions that are read at once.
const CHUNK: usize = 1024;

/// The rows of all agents, in the order of their IDs.
#[derive(Debug)]
pub(super) struct Board {
    /// The latest event that the rows know of; `None` before the first look.
    seen: Option<u64>,
    /// Which relay it is, where several act as one.
    relay: Option<RelayNumber>,
    /// Rows that were made so far.
    stamps: u64,
    snapshot: Snapshot,
}

/// What a board was at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Another number when anything has changed.
    pub(super) version: u64,
    /// Another number when a search may find other rows, or in another order.
    pub(super) layout: u64,
    pub(super) rows: Arc<Vec<Arc<Row>>>,
    pub(super) sessions: usize,
    pub(super) shows: Shows,
    /// The relays that act as one; none where one is alone.
    pub(super) relays: Arc<Vec<RelayLine>>,
}

impl Snapshot {
    /// Of nothing.
    pub(super) fn empty(shows: Shows) -> Self {
        let (rows, relays) = (Arc::default(), Arc::default());
        Self { version: 0, layout: 0, rows, sessions: 0, shows, relays }
    }
}

impl Board {
    pub(super) fn new(shows: Shows) -> Self {
        Self { seen: None, relay: None, stamps: 0, snapshot: Snapshot::empty(shows) }
    }

    /// The same for one of several relays.
    pub(super) fn at(mut self, relay: Option<RelayNumber>) -> Self {
        self.relay = relay;
        self
    }

    /// Takes over what has happened since the last look. Costs as much as has happened; only the first look, and one that
    /// comes so late that the journal has forgotten something, looks at every agent.
    pub(super) fn look(&mut self, directory: &Directory) -> Snapshot {
        let before = (self.snapshot.version, self.snapshot.layout);
        match self.touched(directory) {
            Some(touched) => touched.iter().for_each(|id| self.refresh(id, directory)),
            None => self.read_all(directory),
        }
        if self.snapshot.shows.bytes() {
            self.count_bytes(directory);
        }
        let sessions = directory.counts().1;
        if self.snapshot.sessions != sessions {
            self.snapshot.sessions = sessions;
            self.snapshot.version += 1;
        }
        debug_assert!(
            before.1 == self.snapshot.layout || before.0 != self.snapshot.version,
            "a layout is a change"
        );
        self.snapshot.clone()
    }

    /// The agents to which something has happened; `None` when nobody can tell.
    fn touched(&mut self, directory: &Directory) -> Option<BTreeSet<Id>> {
        let mut touched = BTreeSet::new();
        let mut seen = self.seen?;
        loop {
            let page = directory.journal().since(seen, CHUNK);
            if page.has_gap {
                return None;
            }
            let Some(last) = page.events.last() else { break };
            seen = last.number;
            touched.extend(page.events.iter().map(|event| event.what.id().clone()));
        }
        self.seen = Some(seen);
        Some(touched)
    }

    fn read_all(&mut self, directory: &Directory) {
        // Before the agents: what happens meanwhile is looked at again.
        self.seen = Some(*directory.journal().latest().borrow());
        let mut rows: Vec<Arc<Row>> = Vec::new();
        loop {
            let agents = directory.agents(rows.last().map(|row| &row.id), CHUNK);
            if agents.is_empty() {
                break;
            }
            for agent in agents {
                let row = Row::new(&agent, self.snapshot.shows, self.relay);
                let known = self.place(&row.id).ok().and_then(|place| self.snapshot.rows.get(place));
                let known = known.filter(|known| known.is_like(&row)).cloned();
                rows.push(known.unwrap_or_else(|| self.stamped(row)));
            }
        }
        self.snapshot.rows = Arc::new(rows);
        self.snapshot.version += 1;
        self.snapshot.layout += 1;
    }

    fn stamped(&mut self, mut row: Row) -> Arc<Row> {
        self.stamps += 1;
        row.stamp = self.stamps;
        Arc::new(row)
    }

    fn refresh(&mut self, id: &Id, directory: &Directory) {
        let place = self.place(id);
        let row = directory.agent(id).map(|agent| Row::new(&agent, self.snapshot.shows, self.relay));
        match (place, row) {
            (Err(_), None) => return,
            (Ok(place), None) => {
                Arc::make_mut(&mut self.snapshot.rows).remove(place);
                self.snapshot.layout += 1;
            }
            (Err(place), Some(row)) => {
                let row = self.stamped(row);
                Arc::make_mut(&mut self.snapshot.rows).insert(place, row);
                self.snapshot.layout += 1;
            }
            (Ok(place), Some(row)) => {
                let Some(known) = self.snapshot.rows.get(place) else { return };
                if known.is_like(&row) {
                    return;
                }
                if !known.is_found_like(&row) {
                    self.snapshot.layout += 1;
                }
                let row = self.stamped(row);
                if let Some(known) = Arc::make_mut(&mut self.snapshot.rows).get_mut(place) {
                    *known = row;
                }
            }
        }
        self.snapshot.version += 1;
    }

    /// Bytes are no events: whoever has a session may have moved some.
    fn count_bytes(&mut self, directory: &Directory) {
        let mut after = None;
        let mut moved = BTreeSet::new();
        loop {
            let sessions = directory.sessions(after, CHUNK);
            let Some(last) = sessions.last() else { break };
            after = Some(last.number);
            moved.extend(sessions.iter().map(|session| session.id.clone()));
        }
        for id in moved {
            let known = self.place(&id).ok().and_then(|place| self.snapshot.rows.get(place));
            let agent = directory.agent(&id);
            let is_same = known.zip(agent).is_none_or(|(row, agent)| row.has_bytes_of(&agent));
            if !is_same {
                self.refresh(&id, directory);
            }
        }
    }

    /// Where the row of an ID is, or would be.
    fn place(&self, id: &Id) -> Result<usize, usize> {
        self.snapshot.rows.binary_search_by(|row| row.id.cmp(id))
    }
}

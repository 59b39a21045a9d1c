//! Who holds which ID.
//!
//! * A free ID is given as asked.
//! * An ID held by the same key is taken over at once: the old link is a leftover.
//! * An ID held by another key stays where it is; the newcomer gets a generated one and is told so.
//! * After a lost link the ID stays reserved for its key for a grace time.
//! * An ID may be reserved before any key is known: the first agent with the right token has it, whatever it asked for,
//!   and from then on it is that agent's key that counts.

mod reservation;

pub use reservation::{Reservation, ReserveError, SecretHash};

use crate::{
    host_key::HostKey,
    id::Id,
    rendezvous::{handshake::VerifiedAgent, messages::Reassigned},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// A relay's number for one link; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNumber(pub u64);

/// The IDs of one relay. None is added when [`max_ids`](Self::new) are held or reserved.
///
/// [`claim`](Self::claim) and [`lose`](Self::lose) or [`give_up`](Self::give_up) come in pairs per link;
/// [`handle_timeout`](Self::handle_timeout) is called when [`poll_timeout`](Self::poll_timeout) says.
#[derive(Debug)]
pub struct IdTable {
    grace: Duration,
    max_ids: usize,
    max_promised: usize,
    entries: BTreeMap<Id, Entry>,
    /// Second index: every reservation of `entries` by its end.
    reservations: BTreeSet<(Instant, Id)>,
    /// Second index: every secret of `entries`.
    secrets: BTreeMap<SecretHash, Id>,
    /// Second index: how many of `entries` have no key yet.
    promised: usize,
}

#[derive(Debug)]
struct Entry {
    /// Whose it is; not known yet when it was reserved for the bearer of a token.
    host_key: Option<HostKey>,
    /// The token it was reserved for, kept so that the agent may come back with it.
    secret: Option<SecretHash>,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Link(LinkNumber),
    ReservedUntil(Instant),
}

/// What a claim led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// The ID that the link now holds.
    pub id: Id,
    /// Why it is not the wanted one.
    pub reassigned: Option<Reassigned>,
    /// A leftover link of the same key that held the ID until now. Close it; do not call [`IdTable::lose`] for it.
    pub replaced: Option<LinkNumber>,
}

/// All IDs that may be held are held.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this relay has no room for another agent")]
pub struct TableFull;

impl IdTable {
    /// `grace` is how long an ID stays reserved after its link was lost; at most `max_promised` are reserved for agents
    /// that have never been here.
    pub fn new(grace: Duration, max_ids: usize, max_promised: usize) -> Self {
        Self {
            grace,
            max_ids,
            max_promised,
            entries: BTreeMap::new(),
            reservations: BTreeSet::new(),
            secrets: BTreeMap::new(),
            promised: 0,
        }
    }

    /// Changes how many IDs may be held or reserved. Those that there are stay, however many.
    pub fn set_max_ids(&mut self, max_ids: usize) {
        self.max_ids = max_ids;
    }

    /// Gives `link` an ID. `generated` yields random IDs for an agent that wants none, or cannot have its own.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room, or when `generated` yields no free ID in eight tries.
    pub fn claim(
        &mut self,
        agent: &VerifiedAgent,
        link: LinkNumber,
        mut generated: impl FnMut() -> Id,
    ) -> Result<Claim, TableFull> {
        if let Some(id) = self.reserved_for(agent) {
            let has_other_wish = agent.wanted.as_ref().is_some_and(|wanted| *wanted != id);
            return self.take(id, agent, link, has_other_wish.then_some(Reassigned::ByToken));
        }
        let mut reassigned = None;
        if let Some(wanted) = &agent.wanted {
            match self.entries.get(wanted).map(|entry| &entry.host_key) {
                Some(None) => reassigned = Some(Reassigned::Reserved),
                Some(Some(key)) if *key != agent.host_key => reassigned = Some(Reassigned::HeldByAnotherKey),
                _ => return self.take(wanted.clone(), agent, link, None),
            }
        }
        let free = (0..8).map(|_| generated()).find(|id| !self.entries.contains_key(id));
        self.take(free.ok_or(TableFull)?, agent, link, reassigned)
    }

    /// The ID that was reserved for the bearer of this agent's token, if the agent is the first to come with it, or is
    /// the one that came first.
    pub fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id> {
        let id = self.secrets.get(&SecretHash::of(agent.token.as_ref()?))?;
        let entry = self.entries.get(id)?;
        entry.host_key.as_ref().is_none_or(|key| *key == agent.host_key).then(|| id.clone())
    }

    fn take(
        &mut self,
        id: Id,
        agent: &VerifiedAgent,
        link: LinkNumber,
        reassigned: Option<Reassigned>,
    ) -> Result<Claim, TableFull> {
        if !self.entries.contains_key(&id) && self.entries.len() >= self.max_ids {
            return Err(TableFull);
        }
        let old = self.entries.remove(&id);
        let secret = old.as_ref().and_then(|old| old.secret);
        self.promised -= usize::from(old.as_ref().is_some_and(Entry::is_promised));
        let replaced = match old.map(|old| old.holder) {
            Some(Holder::Link(old)) => Some(old),
            Some(Holder::ReservedUntil(until)) => {
                self.reservations.remove(&(until, id.clone()));
                None
            }
            None => None,
        };
        let holder = Holder::Link(link);
        self.entries.insert(id.clone(), Entry { host_key: Some(agent.host_key.clone()), secret, holder });
        self.check();
        Ok(Claim { id, reassigned, replaced })
    }

    /// The link broke: the ID stays reserved for its key. Without effect when another link holds it by now.
    pub fn lose(&mut self, id: &Id, link: LinkNumber, now: Instant) {
        let until = now + self.grace;
        if let Some(entry) = self.held_by(id, link) {
            entry.holder = Holder::ReservedUntil(until);
            self.reservations.insert((until, id.clone()));
        }
        self.check();
    }

    /// The agent said goodbye: the ID is free at once. Without effect when another link holds it by now.
    pub fn give_up(&mut self, id: &Id, link: LinkNumber) {
        if self.held_by(id, link).is_some() {
            self.remove(id);
        }
        self.check();
    }

    /// Whether the ID is somebody's.
    pub fn is_taken(&self, id: &Id) -> bool {
        self.entries.contains_key(id)
    }

    /// When the next reservation ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reservations.first().map(|(until, _)| *until)
    }

    /// Frees every ID whose reservation has ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|until| until <= now) {
            if let Some((_, id)) = self.reservations.pop_first() {
                self.remove(&id);
            }
        }
        self.check();
    }

    fn held_by(&mut self, id: &Id, link: LinkNumber) -> Option<&mut Entry> {
        self.entries
            .get_mut(id)
            .filter(|entry| matches!(entry.holder, Holder::Link(holder) if holder == link))
    }

    fn remove(&mut self, id: &Id) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.promised -= usize::from(entry.is_promised());
        if let Some(secret) = entry.secret {
            self.secrets.remove(&secret);
        }
    }

    fn check(&self) {
        let count = |is_it: fn(&Entry) -> bool| self.entries.values().filter(|entry| is_it(entry)).count();
        debug_assert_eq!(
            self.reservations.len(),
            count(|entry| matches!(entry.holder, Holder::ReservedUntil(_)))
        );
        debug_assert_eq!(self.secrets.len(), count(|entry| entry.secret.is_some()));
        debug_assert_eq!(self.promised, count(Entry::is_promised));
    }
}

impl Entry {
    /// Reserved for a token, and nobody has come with it yet.
    fn is_promised(&self) -> bool {
        self.host_key.is_none()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
mod tests;

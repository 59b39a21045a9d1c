//! Who holds which ID.
//!
//! * A free ID is given as asked.
//! * An ID held by the same key is taken over at once: the old link is a leftover.
//! * An ID held by another key stays where it is; the newcomer gets a generated one and is told so.
//! * After a lost link the ID stays reserved for its key for a grace time.

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

/// The IDs of one relay. At most [`max_ids`](Self::new) are held or reserved at a time.
///
/// [`claim`](Self::claim) and [`lose`](Self::lose) or [`give_up`](Self::give_up) come in pairs per link;
/// [`handle_timeout`](Self::handle_timeout) is called when [`poll_timeout`](Self::poll_timeout) says.
#[derive(Debug)]
pub struct IdTable {
    grace: Duration,
    max_ids: usize,
    entries: BTreeMap<Id, Entry>,
    /// Second index: every reservation of `entries` by its end.
    reservations: BTreeSet<(Instant, Id)>,
}

#[derive(Debug)]
struct Entry {
    host_key: HostKey,
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
    /// `grace` is how long an ID stays reserved after its link was lost.
    pub fn new(grace: Duration, max_ids: usize) -> Self {
        Self { grace, max_ids, entries: BTreeMap::new(), reservations: BTreeSet::new() }
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
        let mut reassigned = None;
        if let Some(wanted) = &agent.wanted {
            match self.entries.get(wanted) {
                Some(entry) if entry.host_key != agent.host_key => {
                    reassigned = Some(Reassigned::HeldByAnotherKey);
                }
                _ => return self.take(wanted.clone(), agent, link, None),
            }
        }
        let free = (0..8).map(|_| generated()).find(|id| !self.entries.contains_key(id));
        self.take(free.ok_or(TableFull)?, agent, link, reassigned)
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
        let entry = Entry { host_key: agent.host_key.clone(), holder: Holder::Link(link) };
        let replaced = match self.entries.insert(id.clone(), entry).map(|old| old.holder) {
            Some(Holder::Link(old)) => Some(old),
            Some(Holder::ReservedUntil(until)) => {
                self.reservations.remove(&(until, id.clone()));
                None
            }
            None => None,
        };
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
            self.entries.remove(id);
        }
        self.check();
    }

    /// When the next reservation ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reservations.first().map(|(until, _)| *until)
    }

    /// Frees every ID whose reservation has ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|until| until <= now) {
            if let Some((_, id)) = self.reservations.pop_first() {
                self.entries.remove(&id);
            }
        }
        self.check();
    }

    fn held_by(&mut self, id: &Id, link: LinkNumber) -> Option<&mut Entry> {
        self.entries
            .get_mut(id)
            .filter(|entry| matches!(entry.holder, Holder::Link(holder) if holder == link))
    }

    fn check(&self) {
        debug_assert!(self.entries.len() <= self.max_ids);
        debug_assert_eq!(
            self.reservations.len(),
            self.entries.values().filter(|entry| matches!(entry.holder, Holder::ReservedUntil(_))).count(),
        );
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
mod tests {
    use super::*;
    use crate::{host_key::tests::host_key, rendezvous::messages::AgentInfo};

    const GRACE: Duration = Duration::from_mins(10);

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    fn agent(key: u8, wanted: Option<&str>) -> VerifiedAgent {
        VerifiedAgent {
            wanted: wanted.map(id),
            host_key: host_key(key),
            info: AgentInfo::default(),
            token: None,
        }
    }

    /// A table, and what its callers would have to remember.
    struct Fixture {
        table: IdTable,
        now: Instant,
        links: u64,
    }

    impl Fixture {
        fn new(max_ids: usize) -> Self {
            Self { table: IdTable::new(GRACE, max_ids), now: Instant::now(), links: 0 }
        }

        fn claim(&mut self, key: u8, wanted: Option<&str>) -> Result<Claim, TableFull> {
            self.links += 1;
            let mut generated = 0;
            self.table.claim(&agent(key, wanted), LinkNumber(self.links), || {
                generated += 1;
                id(&format!("generated-{generated}"))
            })
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.table.handle_timeout(self.now);
        }
    }

    #[expect(clippy::unnecessary_wraps)] // It is compared with results.
    fn given(text: &str) -> Result<Claim, TableFull> {
        Ok(Claim { id: id(text), reassigned: None, replaced: None })
    }

    #[test]
    fn free_id_is_given_as_asked() {
        let mut fixture = Fixture::new(10);
        assert_eq!(fixture.claim(1, Some("build")), given("build"));
        assert_eq!(fixture.claim(1, None), given("generated-1"));
        assert_eq!(fixture.claim(2, None), given("generated-2"), "a taken one is not generated again");
    }

    #[test]
    fn same_key_takes_over_at_once() {
        let mut fixture = Fixture::new(10);
        fixture.claim(1, Some("build")).unwrap();
        let claim = fixture.claim(1, Some("build")).unwrap();
        assert_eq!((claim.id, claim.replaced), (id("build"), Some(LinkNumber(1))));
        fixture.table.lose(&id("build"), LinkNumber(1), fixture.now);
        assert_eq!(fixture.table.poll_timeout(), None, "the leftover's end does not touch the new holder");
        fixture.table.give_up(&id("build"), LinkNumber(1));
        assert_eq!(fixture.claim(2, Some("build")).unwrap().reassigned, Some(Reassigned::HeldByAnotherKey));
    }

    #[test]
    fn id_of_another_key_is_not_evicted() {
        let mut fixture = Fixture::new(10);
        fixture.claim(1, Some("build")).unwrap();
        let claim = fixture.claim(2, Some("build")).unwrap();
        let expected =
            Claim { id: id("generated-1"), reassigned: Some(Reassigned::HeldByAnotherKey), replaced: None };
        assert_eq!(claim, expected);
    }

    #[test]
    fn lost_id_is_reserved_for_its_key_and_then_free() {
        let mut fixture = Fixture::new(10);
        fixture.claim(1, Some("build")).unwrap();
        fixture.table.lose(&id("build"), LinkNumber(1), fixture.now);
        fixture.pass(GRACE.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(fixture.claim(2, Some("build")).unwrap().reassigned.is_some(), "still reserved");
        assert_eq!(fixture.claim(1, Some("build")), given("build"), "for its own key");
        fixture.table.lose(&id("build"), LinkNumber(3), fixture.now);
        fixture.pass(GRACE);
        assert_eq!(fixture.claim(2, Some("build")), given("build"), "free after the grace time");
    }

    #[test]
    fn goodbye_frees_the_id_at_once() {
        let mut fixture = Fixture::new(10);
        fixture.claim(1, Some("build")).unwrap();
        fixture.table.give_up(&id("build"), LinkNumber(1));
        assert_eq!(fixture.claim(2, Some("build")), given("build"));
    }

    #[test]
    fn full_table_refuses_newcomers_and_keeps_its_own() {
        let mut fixture = Fixture::new(1);
        fixture.claim(1, Some("build")).unwrap();
        assert_eq!(fixture.claim(2, Some("other")), Err(TableFull));
        assert_eq!(fixture.claim(2, None), Err(TableFull));
        assert!(fixture.claim(1, Some("build")).is_ok());
        fixture.table.give_up(&id("build"), LinkNumber(4));
        assert_eq!(fixture.claim(2, Some("other")), given("other"));
    }

    #[test]
    fn generator_that_finds_no_free_id_is_an_error_not_a_loop() {
        let mut fixture = Fixture::new(10);
        fixture.claim(1, Some("same")).unwrap();
        assert_eq!(fixture.table.claim(&agent(2, None), LinkNumber(9), || id("same")), Err(TableFull));
    }
}

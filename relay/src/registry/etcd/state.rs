//! Who has which ID, as far as this relay knows, and what follows from it. No I/O: the registry asks, and tells what etcd
//! has said.
//!
//! etcd decides. What is known here is what it has said so far, so an answer may be late but is never an invention: an
//! agent gets an ID only by a write that etcd makes on condition that nothing has changed since.

use super::holding::{Held, Holding, RelayEntry, Run};
use converge_proto::{
    HostKey, Id, RelayNumber,
    rendezvous::{LinkNumber, Reassigned, SecretHash, VerifiedAgent, id_table::Reservation},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime},
};

/// etcd's number for a change of its data; greater is later.
pub(super) type Revision = i64;

/// How often another ID is made up when one is taken.
const ID_TRIES: usize = 8;

/// `A` is what finds an agent.
#[derive(Debug)]
pub(super) struct State<A> {
    me: RelayNumber,
    run: Run,
    grace: Duration,
    /// What etcd says, of all relays.
    known: HashMap<Id, Known>,
    /// Second index: every secret of `known`.
    secrets: HashMap<SecretHash, Id>,
    /// What it said before its data was lost, and until when that still counts.
    remembered: HashMap<Id, (Holding, Instant)>,
    /// What this relay holds.
    own: HashMap<Id, Own<A>>,
    /// What it held, until etcd has forgotten it too: it may still have to tell of earlier writes.
    released: HashMap<Id, Revision>,
    relays: BTreeMap<RelayNumber, RelayEntry>,
    /// What this relay holds is its own until then at least, whatever happens to etcd.
    valid_until: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    holding: Holding,
    revision: Revision,
}

/// An ID that this relay holds.
#[derive(Debug)]
struct Own<A> {
    host_key: HostKey,
    secret: Option<SecretHash>,
    revision: Revision,
    holder: Holder<A>,
}

#[derive(Debug)]
enum Holder<A> {
    Link(LinkNumber, A),
    ReservedUntil(Instant),
}

/// Where an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts<A> {
    Here(A),
    At(RelayNumber, Revision),
}

/// How a claim is to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) id: Id,
    /// Why it is not the wanted one.
    pub(super) reassigned: Option<Reassigned>,
    pub(super) step: Step,
    /// The token that the ID was reserved for; to be written again.
    pub(super) secret: Option<SecretHash>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The ID is this relay's and the same key's: nothing is to be written.
    Take,
    /// To be written on condition that the ID was last changed then; 0: that it is not there.
    Write(Revision),
}

/// No ID that was made up is free.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFreeId;

/// What is to be done after something was learnt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect<A> {
    /// The agent has its ID at another relay by now: its link here is a leftover.
    Replaced(A),
    /// etcd has forgotten an ID that is this relay's.
    Claim(Id),
    /// An agent may be somewhere where it was not before.
    Appeared,
}

impl<A: Clone> State<A> {
    pub(super) fn new(me: RelayNumber, run: Run, grace: Duration) -> Self {
        Self {
            me,
            run,
            grace,
            known: HashMap::new(),
            secrets: HashMap::new(),
            remembered: HashMap::new(),
            own: HashMap::new(),
            released: HashMap::new(),
            relays: BTreeMap::new(),
            valid_until: None,
        }
    }

    /// Until when this relay may believe that what it holds is its own: etcd keeps it for longer.
    pub(super) fn set_valid_until(&mut self, until: Option<Instant>) {
        self.valid_until = until;
    }

    /// Whether it may.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.valid_until.is_some_and(|until| now < until)
    }

    /// Agents that are here.
    pub(super) fn agents(&self) -> impl Iterator<Item = &A> {
        self.own.values().filter_map(|own| match &own.holder {
            Holder::Link(_, agent) => Some(agent),
            Holder::ReservedUntil(_) => None,
        })
    }

    /// How many IDs this relay holds, with and without an agent.
    pub(super) fn held(&self) -> usize {
        self.own.len()
    }

    /// The other relays that are there.
    pub(super) fn relays(&self) -> &BTreeMap<RelayNumber, RelayEntry> {
        &self.relays
    }

    pub(super) fn find(&self, id: &Id, now: Instant) -> Option<Whereabouts<A>> {
        if let Some(own) = self.own.get(id) {
            return match &own.holder {
                Holder::Link(_, agent) if self.is_valid(now) => Some(Whereabouts::Here(agent.clone())),
                _ => None,
            };
        }
        let known = self.known.get(id)?;
        let Holding::Held(held) = &known.holding else { return None };
        let is_there = self.relays.get(&held.relay).is_some_and(|relay| relay.run == held.run);
        (is_there && held.relay != self.me).then_some(Whereabouts::At(held.relay, known.revision))
    }

    /// The relay that has this ID for its agent, and is not there.
    pub(super) fn left_behind(&self, id: &Id) -> Option<RelayNumber> {
        let Holding::Held(held) = &self.known.get(id)?.holding else { return None };
        let is_there = self.relays.get(&held.relay).is_some_and(|relay| relay.run == held.run);
        (!is_there && held.relay != self.me).then_some(held.relay)
    }

    /// The key of the agent that has this ID now.
    pub(super) fn host_key(&self, id: &Id, now: Instant) -> Option<HostKey> {
        self.find(id, now)?;
        match (self.own.get(id), self.known.get(id).map(|known| &known.holding)) {
            (Some(own), _) => Some(own.host_key.clone()),
            (None, Some(Holding::Held(held))) => Some(held.host_key.clone()),
            (None, _) => None,
        }
    }

    /// The ID that was reserved for the bearer of this agent's token, if the agent is the first to come with it, or is
    /// the one that came first.
    pub(super) fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id> {
        let id = self.secrets.get(&SecretHash::of(agent.token.as_ref()?))?;
        let is_its = match &self.known.get(id)?.holding {
            Holding::Promised { .. } => true,
            Holding::Held(held) => held.host_key == agent.host_key,
        };
        is_its.then(|| id.clone())
    }

    /// What is reserved for agents that have not come yet.
    pub(super) fn promises(&self, now: (Instant, SystemTime)) -> Vec<Reservation> {
        let mut promises: Vec<_> = self
            .known
            .iter()
            .filter_map(|(id, known)| match known.holding {
                Holding::Promised { until, .. } => {
                    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
                    let left = until.duration_since(now.1).ok()?;
                    Some(Reservation { id: id.clone(), until: now.0.checked_add(left)? })
                }
                Holding::Held(_) => None,
            })
            .collect();
        promises.sort_by(|one, other| one.id.cmp(&other.id));
        promises
    }

    /// The revision of an ID that nobody has come for yet.
    pub(super) fn promise(&self, id: &Id) -> Option<Revision> {
        let known = self.known.get(id)?;
        matches!(known.holding, Holding::Promised { .. }).then_some(known.revision)
    }

    /// Whether a token is that of a reservation.
    pub(super) fn is_secret_known(&self, secret: &SecretHash) -> bool {
        self.secrets.contains_key(secret)
    }

    /// Whether an ID is somebody's.
    pub(super) fn is_taken(&self, id: &Id, now: Instant) -> bool {
        self.own.contains_key(id) || self.known.contains_key(id) || self.memory_of(id, now).is_some()
    }

    fn memory_of(&self, id: &Id, now: Instant) -> Option<&Holding> {
        self.remembered.get(id).filter(|(_, until)| now < *until).map(|(holding, _)| holding)
    }

    /// How an agent is to get its ID, by the rules of [`IdTable`](converge_proto::rendezvous::IdTable).
    pub(super) fn plan(
        &self,
        agent: &VerifiedAgent,
        now: Instant,
        mut generated: impl FnMut() -> Id,
    ) -> Result<Plan, NoFreeId> {
        if let Some(id) = self.reserved_for(agent) {
            let has_other_wish = agent.wanted.as_ref().is_some_and(|wanted| *wanted != id);
            return Ok(self.taking(id, has_other_wish.then_some(Reassigned::ByToken)));
        }
        let mut reassigned = None;
        if let Some(wanted) = &agent.wanted {
            let said = self.known.get(wanted).map(|known| &known.holding);
            let holder = match (self.own.get(wanted), said.or_else(|| self.memory_of(wanted, now))) {
                (Some(own), _) => Some(Some(&own.host_key)),
                (None, Some(Holding::Held(held))) => Some(Some(&held.host_key)),
                (None, Some(Holding::Promised { .. })) => Some(None),
                (None, None) => None,
            };
            match holder {
                Some(None) => reassigned = Some(Reassigned::Reserved),
                Some(Some(key)) if *key != agent.host_key => reassigned = Some(Reassigned::HeldByAnotherKey),
                _ => return Ok(self.taking(wanted.clone(), None)),
            }
        }
        let free = (0..ID_TRIES).map(|_| generated()).find(|id| !self.is_taken(id, now));
        free.map(|id| self.taking(id, reassigned)).ok_or(NoFreeId)
    }

    fn taking(&self, id: Id, reassigned: Option<Reassigned>) -> Plan {
        let own = self.own.get(&id);
        let known = self.known.get(&id);
        let secret = own.and_then(|own| own.secret).or_else(|| match &known?.holding {
            Holding::Held(held) => held.secret,
            Holding::Promised { secret, .. } => Some(*secret),
        });
        let step = match own {
            Some(_) => Step::Take,
            None => Step::Write(known.map_or(0, |known| known.revision)),
        };
        Plan { id, reassigned, step, secret }
    }

    /// What is written for an agent.
    pub(super) fn holding(
        &self,
        host_key: &HostKey,
        secret: Option<SecretHash>,
        claims: Option<String>,
    ) -> Holding {
        Holding::Held(Box::new(Held {
            relay: self.me,
            run: self.run,
            host_key: host_key.clone(),
            secret,
            claims,
        }))
    }

    /// What is written for an ID that this relay holds, and that etcd has forgotten: the condition, and the value.
    pub(super) fn written_again(&self, id: &Id) -> Option<Holding> {
        let own = self.own.get(id)?;
        Some(self.holding(&own.host_key, own.secret, None))
    }

    /// The agent has this ID from now on: its key's already, or by a write of this revision. Returns the leftover of an
    /// earlier link.
    ///
    /// # Errors
    /// The agent back, where its ID was taken over elsewhere before this was told.
    pub(super) fn take(
        &mut self,
        id: &Id,
        agent: (LinkNumber, A),
        host_key: &HostKey,
        written: Option<(Revision, Option<SecretHash>)>,
    ) -> Result<Option<A>, A> {
        let (link, agent) = agent;
        let holder = Holder::Link(link, agent.clone());
        let is_overtaken = |revision| self.known.get(id).is_some_and(|known| known.revision > revision);
        match (self.own.get_mut(id), written) {
            (Some(own), _) if own.host_key == *host_key => {
                own.revision = written.map_or(own.revision, |(revision, _)| own.revision.max(revision));
                let before = std::mem::replace(&mut own.holder, holder);
                Ok(match before {
                    Holder::Link(_, leftover) => Some(leftover),
                    Holder::ReservedUntil(_) => None,
                })
            }
            (None, Some((revision, secret))) if !is_overtaken(revision) => {
                let own = Own { host_key: host_key.clone(), secret, revision, holder };
                self.own.insert(id.clone(), own);
                Ok(None)
            }
            _ => Err(agent),
        }
    }

    /// The link broke: the ID stays reserved for its key. Without effect when another link holds it by now.
    pub(super) fn lose(&mut self, id: &Id, link: LinkNumber, now: Instant) {
        let until = now + self.grace;
        if let Some(own) = self.own.get_mut(id)
            && own.is_on(link)
        {
            own.holder = Holder::ReservedUntil(until);
        }
    }

    /// The agent said goodbye. Returns what etcd is to forget, on condition that it was last changed then.
    pub(super) fn give_up(&mut self, id: &Id, link: LinkNumber) -> Option<Revision> {
        self.own.get(id).filter(|own| own.is_on(link))?;
        let revision = self.own.remove(id)?.revision;
        self.released.insert(id.clone(), revision);
        Some(revision)
    }

    /// What is reserved no more, which etcd is to forget.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Id, Revision)> {
        self.remembered.retain(|_, (_, until)| now < *until);
        let is_over = |own: &Own<A>| matches!(own.holder, Holder::ReservedUntil(until) if until <= now);
        let expired: Vec<_> =
            self.own.extract_if(|_, own| is_over(own)).map(|(id, own)| (id, own.revision)).collect();
        self.released.extend(expired.iter().cloned());
        expired
    }

    /// etcd has given an ID to this holder.
    pub(super) fn put(
        &mut self,
        id: Id,
        holding: Holding,
        revision: Revision,
        now: Instant,
    ) -> Vec<Effect<A>> {
        if self.known.get(&id).is_some_and(|known| known.revision > revision) {
            return Vec::new();
        }
        self.forget(&id);
        self.remembered.remove(&id);
        let secret = match &holding {
            Holding::Held(held) => held.secret,
            Holding::Promised { secret, .. } => Some(*secret),
        };
        if let Some(secret) = secret {
            self.secrets.insert(secret, id.clone());
        }
        let is_released = self.released.get(&id).is_some_and(|released| revision <= *released);
        if !is_released {
            self.released.remove(&id);
        }
        let mut effects = Vec::new();
        match &holding {
            Holding::Held(held) if held.relay == self.me && held.run == self.run && is_released => {}
            Holding::Held(held) if held.relay == self.me && held.run == self.run => {
                let until = now + self.grace;
                let own = self.own.entry(id.clone()).or_insert_with(|| Own {
                    host_key: held.host_key.clone(),
                    secret: held.secret,
                    revision,
                    // A write that was not seen to succeed; whoever it was for comes again, or it ends.
                    holder: Holder::ReservedUntil(until),
                });
                own.revision = own.revision.max(revision);
            }
            _ => {
                if self.own.get(&id).is_some_and(|own| own.revision < revision)
                    && let Some(own) = self.own.remove(&id)
                    && let Holder::Link(_, leftover) = own.holder
                {
                    effects.push(Effect::Replaced(leftover));
                }
                effects.push(Effect::Appeared);
            }
        }
        self.known.insert(id, Known { holding, revision });
        effects
    }

    /// etcd has no holder of this ID any more.
    pub(super) fn deleted(&mut self, id: &Id, revision: Revision) -> Vec<Effect<A>> {
        if self.known.get(id).is_some_and(|known| known.revision > revision) {
            return Vec::new();
        }
        self.forget(id);
        if self.released.get(id).is_some_and(|released| *released < revision) {
            self.released.remove(id);
        }
        match self.own.get(id) {
            Some(own) if own.revision < revision => vec![Effect::Claim(id.clone())],
            _ => Vec::new(),
        }
    }

    fn forget(&mut self, id: &Id) {
        if let Some(Known { holding, .. }) = self.known.remove(id) {
            let secret = match holding {
                Holding::Held(held) => held.secret,
                Holding::Promised { secret, .. } => Some(secret),
            };
            if let Some(secret) = secret {
                self.secrets.remove(&secret);
            }
        }
    }

    /// All that etcd says at this revision. Where it has `lost` its data, what it said before counts on until then.
    pub(super) fn replace(
        &mut self,
        all: Vec<(Id, Holding, Revision)>,
        revision: Revision,
        lost: Option<Instant>,
        now: Instant,
    ) -> Vec<Effect<A>> {
        if let Some(until) = lost {
            // Its revisions begin again, so those from before are no measure.
            let known = std::mem::take(&mut self.known);
            self.secrets.clear();
            self.released.clear();
            for own in self.own.values_mut() {
                own.revision = 0;
            }
            let others = known.into_iter().map(|(id, known)| (id, (known.holding, until)));
            self.remembered.extend(others.filter(|(id, _)| !self.own.contains_key(id)));
        }
        let here: std::collections::HashSet<&Id> = all.iter().map(|(id, ..)| id).collect();
        let is_gone = |id: &&Id| !here.contains(*id);
        let mut gone: Vec<Id> = self.known.keys().filter(is_gone).cloned().collect();
        gone.extend(self.own.keys().filter(|id| is_gone(id) && !self.known.contains_key(*id)).cloned());
        drop(here);
        let mut effects: Vec<_> = gone.iter().flat_map(|id| self.deleted(id, revision)).collect();
        for (id, holding, revision) in all {
            effects.extend(self.put(id, holding, revision, now));
        }
        effects
    }

    /// A relay makes itself known, or is gone.
    pub(super) fn relay(&mut self, number: RelayNumber, entry: Option<RelayEntry>) {
        match entry {
            Some(entry) => self.relays.insert(number, entry),
            None => self.relays.remove(&number),
        };
    }

    /// All relays that there are.
    pub(super) fn replace_relays(&mut self, relays: BTreeMap<RelayNumber, RelayEntry>) {
        self.relays = relays;
    }
}

impl<A> Own<A> {
    fn is_on(&self, link: LinkNumber) -> bool {
        matches!(self.holder, Holder::Link(number, _) if number == link)
    }
}

#[cfg(test)]
mod tests;

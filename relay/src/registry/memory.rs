//! The registry of a single relay, in memory.

use super::{Agent, Ending, Place, RegisterError, Registration, Registry, ReserveRefusal, Unavailable};
use crate::{config::Live, limits};
use converge_proto::{
    HostKey, Id, RelayNumber,
    rendezvous::{IdTable, LinkNumber, SecretHash, VerifiedAgent, id_table::Reservation},
};
use converge_transport::CloseCode;
use futures_util::future::BoxFuture;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Agents of this process.
#[derive(Clone)]
pub struct MemoryRegistry {
    live: watch::Receiver<Live>,
    state: Arc<Mutex<State>>,
    appearances: Arc<watch::Sender<u64>>,
}

struct State {
    table: IdTable,
    /// The agents that the table says hold an ID.
    agents: HashMap<Id, Arc<Agent>>,
}

impl MemoryRegistry {
    /// A registry that keeps IDs for `reservation` and has room for as many agents as `live` says at each time.
    pub fn new(reservation: Duration, live: watch::Receiver<Live>) -> Self {
        let state = State {
            table: IdTable::new(reservation, usize::MAX, limits::MAX_RESERVATIONS),
            agents: HashMap::new(),
        };
        Self { live, state: Arc::new(Mutex::new(state)), appearances: Arc::new(watch::Sender::new(0)) }
    }

    /// The state with all reservations that have ended removed, and the limit of this moment. Each call does so, so no
    /// timer is needed.
    fn state(&self) -> MutexGuard<'_, State> {
        let most_agents = self.live.borrow().limits.agents;
        let most_agents = if most_agents == 0 { usize::MAX } else { most_agents as usize };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.table.set_max_ids(most_agents);
        state.table.handle_timeout(Instant::now());
        state
    }

    fn end(&self, id: &Id, link: LinkNumber, ending: Ending) {
        let mut state = self.state();
        if state.agents.get(id).is_some_and(|agent| agent.number == link) {
            state.agents.remove(id);
        }
        match ending {
            Ending::Lost => state.table.lose(id, link, Instant::now()),
            Ending::Goodbye => state.table.give_up(id, link),
        }
    }
}

impl Registry for MemoryRegistry {
    fn register(&self, agent: Arc<Agent>) -> BoxFuture<'_, Result<Registration, RegisterError>> {
        let registered = (|| {
            let mut state = self.state();
            let claim = state.table.claim(&agent.verified, agent.number, || agent.grant.generate_id());
            let claim = claim.map_err(|_| match agent.grant.only_id() {
                Some(id) if state.table.is_taken(&id) => RegisterError::Held(id),
                _ => RegisterError::Full,
            })?;
            let number = agent.number;
            let leftover = state.agents.insert(claim.id.clone(), agent);
            drop(state);
            if let Some(leftover) = leftover {
                leftover.link.close(CloseCode::REPLACED, "");
            }
            self.appearances.send_modify(|count| *count += 1);
            let (registry, id) = (self.clone(), claim.id.clone());
            Ok(Registration::new(claim.id, claim.reassigned, move |ending| registry.end(&id, number, ending)))
        })();
        Box::pin(std::future::ready(registered))
    }

    fn find(&self, id: &Id) -> Option<Place> {
        self.state().agents.get(id).cloned().map(Place::Here)
    }

    fn left_behind(&self, _: &Id) -> Option<RelayNumber> {
        None
    }

    fn host_key(&self, id: &Id) -> Option<HostKey> {
        self.state().agents.get(id).map(|agent| agent.verified.host_key.clone())
    }

    fn appearances(&self) -> watch::Receiver<u64> {
        self.appearances.subscribe()
    }

    fn outage(&self) -> Option<String> {
        None
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.state().agents.values().cloned().collect()
    }

    fn reserve(
        &self,
        id: Option<Id>,
        secret: SecretHash,
        time: Duration,
    ) -> BoxFuture<'_, Result<Reservation, ReserveRefusal>> {
        let until = Instant::now() + time;
        let id = id.unwrap_or_else(|| Id::generate(rand::random()));
        let reserved = self.state().table.reserve(id.clone(), secret, until);
        let reserved = reserved.map(|()| Reservation { id, until }).map_err(ReserveRefusal::from);
        Box::pin(std::future::ready(reserved))
    }

    fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id> {
        self.state().table.reserved_for(agent)
    }

    fn cancel<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(std::future::ready(Ok(self.state().table.cancel(id))))
    }

    fn reservations(&self) -> Vec<Reservation> {
        self.state().table.promises().collect()
    }
}

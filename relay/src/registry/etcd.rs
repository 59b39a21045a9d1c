//! The registry of several relays that act as one, in etcd.
//!
//! * `ids/ID` says whose an ID is, and at which relay (`etcd/holding.rs`). It is written only on condition that nothing has
//!   changed since it was last read, so that an ID never has two owners. It lives as long as the relay's lease for IDs,
//!   which ends as long after the relay's death as an ID stays reserved for its key.
//! * `relays/NUMBER` says where a relay is. It lives as long as a short lease, so the others soon know when it has gone.
//! * `mark` is made once. When it is another one, etcd has lost its data.
//!
//! All of it is watched by every relay (`etcd/follow.rs`) and kept in memory (`etcd/state.rs`), so that finding an agent asks
//! nobody. A link that is lost writes nothing: the relay keeps the ID for its key by itself and removes it at the end. An agent
//! that comes back to the same relay writes nothing either.
//!
//! While etcd is away, what this relay holds stays its own until etcd may have let the lease end; nothing new is given.

mod follow;
mod holding;
mod state;
mod store;

pub use follow::Follower;
pub(crate) use holding::RelayEntry;

use super::{
    Agent, Elsewhere, Ending, Place, RegisterError, Registration, Registry, ReserveRefusal, Unavailable,
};
use crate::{
    config::{Live, cluster::EtcdConfig},
    limits,
};
use converge_proto::{
    HostKey, Id, RelayNumber,
    rendezvous::{
        LinkNumber, SecretHash, VerifiedAgent,
        id_table::{Reservation, ReserveError},
    },
};
use converge_transport::CloseCode;
use futures_util::future::BoxFuture;
use holding::{Holding, Run};
use state::{Effect, NoFreeId, Revision, State, Step, Whereabouts};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use store::{Claimed, Store, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

/// How often a claim is tried again when somebody else was quicker.
const CLAIM_TRIES: usize = 8;

/// How a relay is known to the others.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub number: RelayNumber,
    /// Where the others reach it: `host:port`.
    pub address: String,
    /// Where agents and clients reach it alone.
    pub url: Option<String>,
}

/// Agents of all relays of a cluster. Clones are the same.
#[derive(Clone)]
pub struct EtcdRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    settings: EtcdConfig,
    member: Member,
    run: Run,
    reservation: Duration,
    live: watch::Receiver<Live>,
    state: Mutex<State<Arc<Agent>>>,
    appearances: watch::Sender<u64>,
    relays: watch::Sender<Arc<BTreeMap<RelayNumber, RelayEntry>>>,
    connection: watch::Sender<Connection>,
    /// IDs that etcd is to forget.
    releases: mpsc::UnboundedSender<(Id, Revision)>,
    draining: watch::Sender<bool>,
    /// Who asks etcd for an ID.
    turns: Semaphore,
}

/// How it is with etcd.
#[derive(Clone, Default)]
struct Connection {
    /// What to ask, and the lease for IDs; nothing while etcd is away.
    open: Option<(Store, i64)>,
    /// Why it is away.
    why: String,
}

impl EtcdRegistry {
    /// A registry that keeps IDs for `reservation`, and what looks after it: nothing is found or given before that runs.
    pub fn new(
        settings: EtcdConfig,
        member: Member,
        reservation: Duration,
        live: watch::Receiver<Live>,
    ) -> (Self, Follower) {
        let run = Run::new();
        let (releases, to_release) = mpsc::unbounded_channel();
        let connection = Connection { open: None, why: "it has not answered yet".to_owned() };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(member.number, run, reservation)),
            settings,
            member,
            run,
            reservation,
            live,
            appearances: watch::Sender::new(0),
            relays: watch::Sender::default(),
            connection: watch::Sender::new(connection),
            releases,
            draining: watch::Sender::new(false),
            turns: Semaphore::new(limits::MAX_CLAIMS),
        });
        let registry = Self { shared };
        (registry.clone(), Follower { registry, to_release })
    }

    /// The relays that there are, this one among them.
    pub(crate) fn relays(&self) -> watch::Receiver<Arc<BTreeMap<RelayNumber, RelayEntry>>> {
        self.shared.relays.subscribe()
    }

    /// Tells the others that this relay is about to stop.
    pub(crate) fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    fn state(&self) -> MutexGuard<'_, State<Arc<Agent>>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(Store, i64), Unavailable> {
        let connection = self.shared.connection.borrow();
        connection.open.clone().ok_or_else(|| Unavailable(connection.why.clone()))
    }

    /// Does what follows from what was learnt; returns the IDs that are to be claimed again.
    fn act_on(&self, effects: Vec<Effect<Arc<Agent>>>) -> Vec<Id> {
        let mut to_claim = Vec::new();
        let mut has_appeared = false;
        for effect in effects {
            match effect {
                Effect::Replaced(agent) => agent.link.close(CloseCode::REPLACED, ""),
                Effect::Claim(id) => to_claim.push(id),
                Effect::Appeared => has_appeared = true,
            }
        }
        if has_appeared {
            self.shared.appearances.send_modify(|count| *count += 1);
        }
        to_claim
    }

    /// What somebody else was quicker to write.
    fn learn(&self, id: &Id, current: Option<(Holding, Revision)>, now: Revision) {
        let mut state = self.state();
        let effects = match current {
            Some((holding, revision)) => state.put(id.clone(), holding, revision, Instant::now()),
            None => state.deleted(id, now),
        };
        drop(state);
        // What etcd has forgotten the follower sees as well, and claims again.
        self.act_on(effects);
    }

    async fn claim(&self, agent: Arc<Agent>) -> Result<Registration, RegisterError> {
        let verified = &agent.verified;
        let claims = agent.grant.claims.as_ref().map(ToString::to_string);
        let mut turn = None;
        for _ in 0..=CLAIM_TRIES {
            let plan = {
                let state = self.state();
                let now = Instant::now();
                let most = self.shared.live.borrow().limits.agents;
                let plan = state.plan(verified, now, || agent.grant.generate_id());
                let plan = plan.map_err(|NoFreeId| match agent.grant.only_id() {
                    Some(id) if state.is_taken(&id, now) => RegisterError::Held(id),
                    _ => RegisterError::Full,
                })?;
                if plan.step != Step::Take && most > 0 && state.held() >= most as usize {
                    return Err(RegisterError::Full);
                }
                if plan.step == Step::Take && !state.is_valid(now) {
                    // Another relay may have given it to somebody else by now.
                    drop(state);
                    return Err(RegisterError::Unavailable(self.away()));
                }
                plan
            };
            let written = match plan.step {
                Step::Take => None,
                Step::Write(_) if turn.is_none() => {
                    turn = Some(self.turn().await?);
                    // Much may have been learnt meanwhile.
                    continue;
                }
                Step::Write(since) => {
                    let (store, lease) = self.open()?;
                    let holding = self.state().holding(&verified.host_key, plan.secret, claims.clone());
                    let claimed = store.claim(&plan.id, since, &holding, lease).await;
                    match claimed.map_err(|error| Unavailable(error.to_string()))? {
                        Claimed::Yes(revision) => Some((revision, plan.secret)),
                        Claimed::No(current, now) => {
                            self.learn(&plan.id, current, now);
                            continue;
                        }
                    }
                }
            };
            let taken =
                self.state().take(&plan.id, (agent.number, agent.clone()), &verified.host_key, written);
            // Overtaken at this moment: it is tried again, against whoever has it now.
            let Ok(leftover) = taken else { continue };
            if let Some(leftover) = leftover {
                leftover.link.close(CloseCode::REPLACED, "");
            }
            self.shared.appearances.send_modify(|count| *count += 1);
            let (registry, id, number) = (self.clone(), plan.id.clone(), agent.number);
            return Ok(Registration::new(plan.id, plan.reassigned, move |ending| {
                registry.end(&id, number, ending);
            }));
        }
        Err(RegisterError::Unavailable(Unavailable("others claim the same ID all the time".to_owned())))
    }

    /// Leave to ask etcd for an ID.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Unavailable> {
        match tokio::time::timeout(limits::CLAIM_WAIT, self.shared.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Unavailable("too many agents come at this moment".to_owned())),
        }
    }

    fn away(&self) -> Unavailable {
        Unavailable(self.shared.connection.borrow().why.clone())
    }

    fn end(&self, id: &Id, link: LinkNumber, ending: Ending) {
        let mut state = self.state();
        match ending {
            Ending::Lost => state.lose(id, link, Instant::now()),
            Ending::Goodbye => {
                if let Some(revision) = state.give_up(id, link) {
                    // Fails when nothing is followed any more: the lease ends it then.
                    let _ = self.shared.releases.send((id.clone(), revision));
                }
            }
        }
    }

    async fn promise(
        &self,
        id: Id,
        secret: SecretHash,
        time: Duration,
    ) -> Result<Reservation, ReserveRefusal> {
        {
            let state = self.state();
            let now = Instant::now();
            if state.is_taken(&id, now) {
                return Err(ReserveError::Taken.into());
            }
            if state.is_secret_known(&secret) {
                return Err(ReserveError::SecretTaken.into());
            }
            if state.promises((now, SystemTime::now())).len() >= limits::MAX_RESERVATIONS {
                return Err(ReserveError::TooMany.into());
            }
        }
        let (store, _) = self.open()?;
        let until = SystemTime::now() + time;
        let seconds = until.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lease = store.lease(time).await.map_err(|error| unavailable(&error))?;
        let holding = Holding::Promised { secret, until: seconds };
        match store.claim(&id, 0, &holding, lease).await {
            Ok(Claimed::Yes(revision)) => {
                self.learn(&id, Some((holding, revision)), revision);
                Ok(Reservation { id, until: Instant::now() + time })
            }
            other => {
                // It would end by itself.
                let _ = store.revoke(lease).await;
                match other {
                    Ok(Claimed::No(current, now)) => {
                        self.learn(&id, current, now);
                        Err(ReserveError::Taken.into())
                    }
                    Err(error) => Err(unavailable(&error).into()),
                    Ok(Claimed::Yes(_)) => Err(ReserveError::Taken.into()),
                }
            }
        }
    }
}

fn unavailable(error: &StoreError) -> Unavailable {
    Unavailable(error.to_string())
}

impl Registry for EtcdRegistry {
    fn register(&self, agent: Arc<Agent>) -> BoxFuture<'_, Result<Registration, RegisterError>> {
        Box::pin(self.claim(agent))
    }

    fn find(&self, id: &Id) -> Option<Place> {
        self.state().find(id, Instant::now()).map(|whereabouts| match whereabouts {
            Whereabouts::Here(agent) => Place::Here(agent),
            Whereabouts::At(relay, revision) => Place::At(Elsewhere { relay, revision }),
        })
    }

    fn left_behind(&self, id: &Id) -> Option<RelayNumber> {
        self.state().left_behind(id)
    }

    fn host_key(&self, id: &Id) -> Option<HostKey> {
        self.state().host_key(id, Instant::now())
    }

    fn appearances(&self) -> watch::Receiver<u64> {
        self.shared.appearances.subscribe()
    }

    fn outage(&self) -> Option<String> {
        let connection = self.shared.connection.borrow();
        connection.open.is_none().then(|| connection.why.clone())
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.state().agents().cloned().collect()
    }

    fn reserve(
        &self,
        id: Option<Id>,
        secret: SecretHash,
        time: Duration,
    ) -> BoxFuture<'_, Result<Reservation, ReserveRefusal>> {
        let id = id.unwrap_or_else(|| Id::generate(rand::random()));
        Box::pin(self.promise(id, secret, time))
    }

    fn reserved_for(&self, agent: &VerifiedAgent) -> Option<Id> {
        self.state().reserved_for(agent)
    }

    fn cancel<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            let Some(revision) = self.state().promise(id) else { return Ok(false) };
            let (store, _) = self.open()?;
            store.release(id, revision).await.map_err(|error| unavailable(&error))
        })
    }

    fn reservations(&self) -> Vec<Reservation> {
        self.state().promises((Instant::now(), SystemTime::now()))
    }
}

#[cfg(test)]
mod tests;

//! The connection to etcd over time: leases that are kept alive, what others write, and what is to be written again.

use super::{
    EtcdRegistry, RelayEntry,
    holding::Run,
    state::Revision,
    store::{Change, Claimed, Snapshot, Store, StoreError},
};
use converge_proto::{Backoff, Id};
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use futures_util::{StreamExt, stream};
use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a relay is believed to be there after its last word.
const RELAY_LEASE: Duration = Duration::from_secs(10);
/// How often it says a word.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How much earlier than etcd this relay believes its IDs to be gone, for clocks that do not run alike.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// How long what etcd said before its data was lost counts on: every relay is to have written its IDs again by then.
const MEMORY_TIME: Duration = Duration::from_secs(30);
/// Writes in progress at once.
const WRITES: usize = 64;
/// How often is looked for what is reserved no more.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after an [`EtcdRegistry`].
pub struct Follower {
    pub(super) registry: EtcdRegistry,
    pub(super) to_release: mpsc::UnboundedReceiver<(Id, Revision)>,
}

/// What this relay has with etcd beyond one connection.
#[derive(Default)]
struct Standing {
    store: Option<Store>,
    relay_lease: Option<i64>,
    id_lease: Option<i64>,
    /// The lease for IDs under which all is written that this relay holds.
    settled: Option<i64>,
    /// The mark of the data, as it was last.
    mark: Option<String>,
    /// Up to where changes were seen.
    seen: Revision,
    /// When this relay has made itself known last; 0: not yet.
    announced: Revision,
    /// What etcd is to forget and has not yet. All of it is on a condition, so it may be said twice.
    to_release: Vec<(Id, Revision)>,
}

/// A lease that is kept alive.
struct Lease {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    /// When it was last asked for, and not yet answered.
    asked: Option<Instant>,
    /// When that was asked which was last answered.
    confirmed: Instant,
}

impl Follower {
    /// Until cancelled. All that this relay holds is then taken back, so that nobody looks for it here.
    pub async fn run(mut self, ending: CancellationToken) {
        let mut standing = Standing::default();
        let mut backoff = Backoff::default();
        loop {
            let following = Box::pin(self.follow(&mut standing, &mut backoff));
            let Some(end) = ending.run_until_cancelled(following).await else {
                break;
            };
            let Err(error) = end;
            match error {
                StoreError::LeaseGone(lease) => standing.forget(lease),
                StoreError::Compacted => standing.seen = 0,
                _ => {}
            }
            if matches!(error, StoreError::LeaseGone(_) | StoreError::Compacted) {
                // etcd has answered, so it is there.
                backoff = Backoff::default();
            }
            self.registry.shared.connection.send_modify(|connection| {
                if connection.open.take().is_some() {
                    warn!(%error, "the cluster's registry is away; what is here goes on, and nothing new is given");
                } else if connection.why != error.to_string() {
                    warn!(%error, "the cluster's registry cannot be reached");
                }
                connection.why = error.to_string();
            });
            let pause = backoff.next(rand::random());
            if ending.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.leave(&standing).await;
    }

    /// The relay ends: the others need not wait to notice. What it held stays reserved for as long as it would otherwise.
    async fn leave(&self, standing: &Standing) {
        self.registry.shared.connection.send_modify(|connection| {
            connection.open = None;
            "the relay is stopping".clone_into(&mut connection.why);
        });
        if let (Some(store), Some(lease)) = (&standing.store, standing.relay_lease)
            && let Err(error) = store.revoke(lease).await
        {
            debug!(%error, "the others will notice by themselves that this relay has gone");
        }
    }

    /// One connection, until it breaks.
    async fn follow(
        &mut self,
        standing: &mut Standing,
        backoff: &mut Backoff,
    ) -> Result<Infallible, StoreError> {
        let registry = self.registry.clone();
        let shared = &registry.shared;
        let store = match &standing.store {
            Some(store) => store.clone(),
            None => standing.store.insert(Store::connect(&shared.settings).await?).clone(),
        };
        let mut relay_lease = lease(&store, &mut standing.relay_lease, RELAY_LEASE).await?;
        let id_time = shared.reservation.max(RELAY_LEASE);
        let mut id_lease = lease(&store, &mut standing.id_lease, id_time).await?;
        let lease_number = id_lease.keeper.id();
        if standing.settled == Some(lease_number) {
            registry.confirm(&id_lease, id_time);
        } else {
            // The lease from before has ended, and others may have taken what was under it.
            standing.seen = 0;
        }

        let mark = store.mark(&Run::new().to_string()).await?;
        let is_lost = standing.mark.replace(mark.clone()).is_some_and(|before| before != mark);
        if is_lost {
            warn!("etcd has lost its data; this relay writes again what it holds");
        }
        let mut to_claim = Vec::new();
        if is_lost || standing.seen == 0 {
            let snapshot = store.list().await?;
            standing.seen = snapshot.revision;
            to_claim = registry.replace(snapshot, is_lost.then(|| Instant::now() + MEMORY_TIME));
        }
        let mut watch = store.watch(standing.seen + 1).await?;
        registry.claim_again(&store, lease_number, to_claim).await?;
        standing.settled = Some(lease_number);
        registry.confirm(&id_lease, id_time);
        registry.announce(&store, &relay_lease, standing).await?;
        release(&store, &mut standing.to_release).await?;
        shared.connection.send_modify(|connection| {
            info!(run = %shared.run, relays = shared.relays.borrow().len(), "the cluster's registry is there");
            connection.open = Some((store.clone(), lease_number));
        });
        *backoff = Backoff::default();

        let mut beat = tokio::time::interval(KEEP_ALIVE_INTERVAL);
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        let mut draining = shared.draining.subscribe();
        draining.mark_unchanged();
        loop {
            tokio::select! {
                changes = store.changes(&mut watch) => {
                    let to_claim = registry.apply(changes?, standing)?;
                    registry.claim_again(&store, lease_number, to_claim).await?;
                }
                _ = beat.tick() => {
                    relay_lease.ask(RELAY_LEASE).await?;
                    id_lease.ask(RELAY_LEASE).await?;
                }
                answer = relay_lease.answered() => answer?,
                answer = id_lease.answered() => {
                    answer?;
                    registry.confirm(&id_lease, id_time);
                }
                _ = expiry.tick() => {
                    standing.to_release.extend(registry.state().expired(Instant::now()));
                    release(&store, &mut standing.to_release).await?;
                }
                _ = self.to_release.recv_many(&mut standing.to_release, WRITES) => {
                    release(&store, &mut standing.to_release).await?;
                }
                Ok(()) = draining.changed() => registry.announce(&store, &relay_lease, standing).await?,
            }
        }
    }
}

impl EtcdRegistry {
    fn entry(&self) -> RelayEntry {
        let shared = &self.shared;
        RelayEntry {
            run: shared.run,
            address: shared.member.address.clone(),
            url: shared.member.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: *shared.draining.borrow(),
        }
    }

    async fn announce(
        &self,
        store: &Store,
        lease: &Lease,
        standing: &mut Standing,
    ) -> Result<(), StoreError> {
        // A restarted relay takes its number over from the run before it, whose lease may still live.
        let takes_over = standing.announced == 0;
        let (number, entry) = (self.shared.member.number, self.entry());
        standing.announced = store.announce(number, &entry, lease.keeper.id(), takes_over).await?;
        Ok(())
    }

    /// The lease for IDs was alive when it was asked for, so etcd keeps them for at least its time from then on.
    fn confirm(&self, lease: &Lease, time: Duration) {
        self.state().set_valid_until(Some(lease.confirmed + time.saturating_sub(LEASE_MARGIN)));
    }

    fn replace(&self, snapshot: Snapshot, lost: Option<Instant>) -> Vec<Id> {
        let Snapshot { relays, ids, revision, .. } = snapshot;
        let mut state = self.state();
        let effects = state.replace(ids, revision, lost, Instant::now());
        state.replace_relays(relays);
        self.show_relays(&state);
        drop(state);
        self.act_on(effects)
    }

    fn show_relays(&self, state: &super::State<Arc<super::Agent>>) {
        self.shared.relays.send_replace(Arc::new(state.relays().clone()));
    }

    fn apply(&self, changes: Vec<Change>, standing: &mut Standing) -> Result<Vec<Id>, StoreError> {
        let mut effects = Vec::new();
        let mut state = self.state();
        for change in changes {
            match change {
                Change::Put(id, holding, revision) => {
                    standing.seen = standing.seen.max(revision);
                    effects.extend(state.put(id, holding, revision, Instant::now()));
                }
                Change::Deleted(id, revision) => {
                    standing.seen = standing.seen.max(revision);
                    effects.extend(state.deleted(&id, revision));
                }
                Change::Relay(number, entry, revision) => {
                    standing.seen = standing.seen.max(revision);
                    if number == self.shared.member.number && revision > standing.announced {
                        match &entry {
                            Some(entry) if entry.run != self.shared.run => {
                                return Err(StoreError::NumberTaken(number));
                            }
                            None => return Err(StoreError::LeaseGone(standing.relay_lease.unwrap_or(0))),
                            Some(_) => {}
                        }
                    }
                    state.relay(number, entry);
                    effects.push(super::Effect::Appeared);
                    self.show_relays(&state);
                }
                // Whoever has removed it: what is there now is to be read again.
                Change::Mark(mark) if mark != standing.mark => return Err(StoreError::Compacted),
                Change::Mark(_) => {}
            }
        }
        drop(state);
        Ok(self.act_on(effects))
    }

    /// Writes again what etcd has forgotten. Whoever else was quicker has the ID.
    async fn claim_again(&self, store: &Store, lease: i64, ids: Vec<Id>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        info!(ids = ids.len(), "IDs are written again");
        each(ids, |id| async move {
            let Some(holding) = self.state().written_again(&id) else { return Ok(()) };
            let (current, now) = match store.claim(&id, 0, &holding, lease).await? {
                Claimed::Yes(revision) => (Some((holding, revision)), revision),
                Claimed::No(current, now) => (current, now),
            };
            self.learn(&id, current, now);
            Ok(())
        })
        .await
    }
}

/// Removes what nobody has taken since.
async fn release(store: &Store, ids: &mut Vec<(Id, Revision)>) -> Result<(), StoreError> {
    if !ids.is_empty() {
        each(ids.clone(), |(id, revision)| async move { store.release(&id, revision).await.map(drop) })
            .await?;
        ids.clear();
    }
    Ok(())
}

impl Standing {
    /// That lease is no more.
    fn forget(&mut self, lease: i64) {
        for ours in [&mut self.relay_lease, &mut self.id_lease] {
            if *ours == Some(lease) {
                *ours = None;
            }
        }
    }
}

/// Several at once, until one fails.
async fn each<T, F>(all: Vec<T>, one: impl Fn(T) -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut running = stream::iter(all).map(one).buffer_unordered(WRITES);
    while let Some(result) = running.next().await {
        result?;
    }
    Ok(())
}

/// The lease from before, or a new one.
async fn lease(store: &Store, number: &mut Option<i64>, time: Duration) -> Result<Lease, StoreError> {
    let asked = Instant::now();
    let lease = match *number {
        Some(lease) => lease,
        None => *number.insert(store.lease(time).await?),
    };
    let (keeper, answers) = store.keep_alive(lease).await?;
    Ok(Lease { keeper, answers, asked: None, confirmed: asked })
}

impl Lease {
    async fn ask(&mut self, patience: Duration) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.asked.is_some_and(|asked| now - asked >= patience) {
            return Err(StoreError::Silent);
        }
        self.asked.get_or_insert(now);
        Ok(self.keeper.keep_alive().await?)
    }

    /// Cancel-safe.
    async fn answered(&mut self) -> Result<(), StoreError> {
        let answer = self.answers.message().await?.ok_or(StoreError::Ended("lease's stream"))?;
        if answer.ttl() <= 0 {
            return Err(StoreError::LeaseGone(self.keeper.id()));
        }
        // An answer may be that to an earlier question, so this is early rather than late.
        if let Some(asked) = self.asked.take() {
            self.confirmed = asked;
        }
        Ok(())
    }
}

//! Links to the other relays: dialed when the first stream is wanted, and kept.

use crate::registry::etcd::{Member, RelayEntry};
use converge_certs::cluster::relay_name;
use converge_proto::RelayNumber;
use converge_transport::{CloseCode, Link, Stream, names};
use quinn::Endpoint;
use rand::{Rng, seq::IteratorRandom};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tracing::{debug, info};

/// How long a dial may take. The others are near.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a relay that could not be reached is not tried again, so that not every client waits for that.
const PAUSE: Duration = Duration::from_secs(1);
/// Links to one relay: one is the work of one core.
const LINKS_PER_RELAY: usize = 4;
/// Streams on a link before another one is dialed.
const STREAMS_PER_LINK: usize = 8;
/// How long the other relay may take to allow a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// The other relays, as this one reaches them.
pub(crate) struct Cluster {
    member: Member,
    endpoint: Endpoint,
    relays: watch::Receiver<Arc<BTreeMap<RelayNumber, RelayEntry>>>,
    pools: Mutex<HashMap<RelayNumber, Arc<Pool>>>,
    packets: Arc<AtomicU64>,
}

/// The links to one relay.
#[derive(Default)]
struct Pool {
    links: Mutex<Vec<Pooled>>,
    /// Held while dialing, so that one dial serves all who wait for it.
    dialing: tokio::sync::Mutex<Option<Failure>>,
}

#[derive(Clone)]
struct Pooled {
    link: Link,
    streams: Arc<AtomicUsize>,
}

/// Why the last dial has failed, and when.
struct Failure {
    at: Instant,
    why: String,
}

/// Why another relay cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("relay {0} has gone")]
    Gone(RelayNumber),
    #[error("relay {relay} cannot be reached: {why}")]
    Unreachable { relay: RelayNumber, why: String },
}

/// A stream to another relay, which counts as one as long as it is held.
pub(crate) struct RelayStream {
    pub(crate) stream: Stream,
    _place: Place,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the links to one relay are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// The relay.
    pub(crate) relay: RelayNumber,
    /// What it says of itself.
    pub(crate) entry: RelayEntry,
    /// Links that are up.
    pub(crate) links: usize,
    /// Streams on them.
    pub(crate) streams: usize,
    /// Why the last dial failed, if it did.
    pub(crate) failure: Option<String>,
}

impl Cluster {
    pub(crate) fn new(
        member: Member,
        endpoint: Endpoint,
        relays: watch::Receiver<Arc<BTreeMap<RelayNumber, RelayEntry>>>,
        packets: Arc<AtomicU64>,
    ) -> Self {
        Self { member, endpoint, relays, pools: Mutex::default(), packets }
    }

    /// UDP datagrams that have come here and were another relay's.
    pub(crate) fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// This relay's number.
    pub(crate) fn me(&self) -> RelayNumber {
        self.member.number
    }

    /// What the others are told of this relay.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// For those who accept on it.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many relays there are, with this one.
    pub(crate) fn size(&self) -> usize {
        self.relays.borrow().len()
    }

    /// The other relays.
    pub(crate) fn others(&self) -> Vec<RelayNumber> {
        self.relays.borrow().keys().copied().filter(|relay| *relay != self.me()).collect()
    }

    /// Whether there are others that take whom this relay lets go.
    pub(crate) fn has_takers(&self) -> bool {
        let relays = self.relays.borrow();
        self.takers(&relays).next().is_some()
    }

    /// The URL of one of them, by chance, where they have URLs of their own.
    pub(crate) fn any_url(&self, random: &mut impl Rng) -> Option<String> {
        let relays = self.relays.borrow();
        self.takers(&relays).filter_map(|entry| entry.url.clone()).choose(random)
    }

    fn takers<'a>(
        &'a self,
        relays: &'a BTreeMap<RelayNumber, RelayEntry>,
    ) -> impl Iterator<Item = &'a RelayEntry> {
        let others = relays.iter().filter(|(relay, _)| **relay != self.me());
        others.map(|(_, entry)| entry).filter(|entry| !entry.draining)
    }

    /// How each of the other relays is.
    pub(crate) fn health(&self) -> Vec<Health> {
        let relays = self.relays.borrow().clone();
        let others = relays.iter().filter(|(relay, _)| **relay != self.me());
        let health = others.map(|(relay, entry)| {
            let pool = self.pools().get(relay).cloned();
            let links = pool.as_ref().map_or_else(Vec::new, |pool| pool.links().clone());
            // While somebody dials nothing is known yet.
            let failure = pool.and_then(|pool| {
                pool.dialing
                    .try_lock()
                    .ok()
                    .and_then(|failure| failure.as_ref().map(|failure| failure.why.clone()))
            });
            let streams = links.iter().map(Pooled::load).sum();
            Health { relay: *relay, entry: entry.clone(), links: links.len(), streams, failure }
        });
        health.collect()
    }

    /// Opens a stream to another relay.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub(crate) async fn open_stream(&self, relay: RelayNumber) -> Result<RelayStream, ClusterError> {
        let entry = self.relays.borrow().get(&relay).cloned().ok_or(ClusterError::Gone(relay))?;
        let pool = self.pools().entry(relay).or_default().clone();
        // A link that has just broken is found out by this; another one is dialed once.
        for _ in 0..2 {
            let pooled = self.link(relay, &entry, &pool).await?;
            let place = pooled.enter();
            match tokio::time::timeout(STREAM_TIMEOUT, pooled.link.open_stream()).await {
                Ok(Ok(stream)) => return Ok(RelayStream { stream, _place: place }),
                Ok(Err(error)) => {
                    debug!(%relay, %error, "a link to another relay has ended");
                    pool.remove(&pooled);
                }
                Err(_) => return Err(unreachable(relay, "it allows no more streams")),
            }
        }
        Err(unreachable(relay, "its links end at once"))
    }

    async fn link(
        &self,
        relay: RelayNumber,
        entry: &RelayEntry,
        pool: &Arc<Pool>,
    ) -> Result<Pooled, ClusterError> {
        if let Some(pooled) = pool.free() {
            return Ok(pooled);
        }
        let mut failure = pool.dialing.lock().await;
        // Whoever dialed meanwhile did it for all.
        if let Some(pooled) = pool.free() {
            return Ok(pooled);
        }
        let any = pool.least();
        if let Some(Failure { at, why }) = failure.as_ref()
            && at.elapsed() < PAUSE
        {
            return any.ok_or_else(|| unreachable(relay, why));
        }
        match self.dial(relay, &entry.address).await {
            Ok(link) => {
                info!(%relay, address = entry.address, "linked to another relay");
                *failure = None;
                let pooled = Pooled { link, streams: Arc::default() };
                pool.links().push(pooled.clone());
                // Nobody else looks at a link that nobody uses.
                let (pool, watched) = (Arc::downgrade(pool), pooled.clone());
                tokio::spawn(async move {
                    let end = watched.link.closed().await;
                    debug!(%relay, %end, "a link to another relay has ended");
                    if let Some(pool) = pool.upgrade() {
                        pool.remove(&watched);
                    }
                });
                Ok(pooled)
            }
            Err(why) => {
                let error = unreachable(relay, &why);
                *failure = Some(Failure { at: Instant::now(), why });
                any.ok_or(error)
            }
        }
    }

    async fn dial(&self, relay: RelayNumber, address: &str) -> Result<Link, String> {
        let dialing = async {
            let addresses = resolve(address).await?;
            let mut why = "its name has no address".to_owned();
            for address in addresses {
                match self.dial_at(relay, address).await {
                    Ok(link) => return Ok(link),
                    Err(error) => why = error,
                }
            }
            Err(why)
        };
        match tokio::time::timeout(DIAL_TIMEOUT, dialing).await {
            Ok(result) => result,
            Err(_) => Err(format!("{address} does not answer")),
        }
    }

    async fn dial_at(&self, relay: RelayNumber, address: SocketAddr) -> Result<Link, String> {
        let connecting =
            self.endpoint.connect(address, &relay_name(relay)).map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| format!("{address}: {error}"))?;
        Ok(Link::quic(connection, None))
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        self.endpoint.close(CloseCode::STOPPING.0.into(), b"");
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<RelayNumber, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where another relay is, which says so as `host:port`.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| format!("{address} is no address"))?;
    names::lookup(host, port).await.map_err(|error| error.to_string())
}

fn unreachable(relay: RelayNumber, why: &str) -> ClusterError {
    ClusterError::Unreachable { relay, why: why.to_owned() }
}

impl Pool {
    fn links(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link with the fewest streams.
    fn least(&self) -> Option<Pooled> {
        self.links().iter().min_by_key(|pooled| pooled.load()).cloned()
    }

    /// The same, where no other one is to be dialed first.
    fn free(&self) -> Option<Pooled> {
        let is_full = self.links().len() >= LINKS_PER_RELAY;
        self.least().filter(|pooled| is_full || pooled.load() < STREAMS_PER_LINK)
    }

    fn remove(&self, gone: &Pooled) {
        self.links().retain(|pooled| !Arc::ptr_eq(&pooled.streams, &gone.streams));
    }
}

impl Pooled {
    fn load(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Place {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Place(self.streams.clone())
    }
}

//! UDP datagrams between relays: those that have arrived at the wrong one, and the answers that must leave from there.
//!
//! They go over the links between relays, on one stream to each relay that is opened when the first is to be sent. What does
//! not fit is dropped, as networks do.

use super::Cluster;
use crate::registry::etcd::RelayEntry;
use bytes::Bytes;
use converge_proto::{
    RelayNumber,
    cluster::{Packet, Packets as Opening},
    rendezvous::Message,
};
use converge_transport::{
    Stream, StreamError,
    quic::{Answer, Crossing, Fate, Forwarded, Stray, Strays},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Datagrams that wait for the way to one relay: some milliseconds of a fast transfer.
const MAX_WAITING: usize = 1024;
/// How long a relay that could not be reached gets none; peers are told by a stateless reset meanwhile, and dial again.
const PAUSE: Duration = Duration::from_secs(1);

/// What quinn's socket hands over. It never waits.
pub(super) struct Packets {
    relays: watch::Receiver<Arc<BTreeMap<RelayNumber, RelayEntry>>>,
    sending: mpsc::Sender<(RelayNumber, Packet)>,
    unreachable: Arc<Unreachable>,
    taken: Arc<AtomicU64>,
}

/// Which relays could not be reached just now.
#[derive(Default)]
struct Unreachable(Mutex<HashMap<RelayNumber, Instant>>);

/// What takes datagrams to the other relays.
pub(super) struct Carrying {
    to_send: mpsc::Receiver<(RelayNumber, Packet)>,
    unreachable: Arc<Unreachable>,
}

impl Packets {
    pub(super) fn new(relays: watch::Receiver<Arc<BTreeMap<RelayNumber, RelayEntry>>>) -> (Self, Carrying) {
        let (sending, to_send) = mpsc::channel(MAX_WAITING);
        let unreachable = Arc::<Unreachable>::default();
        let packets = Self { relays, sending, unreachable: unreachable.clone(), taken: Arc::default() };
        (packets, Carrying { to_send, unreachable })
    }

    /// How many there were.
    pub(super) fn taken(&self) -> Arc<AtomicU64> {
        self.taken.clone()
    }
}

impl Strays for Packets {
    fn stray(&self, stray: Stray<'_>) -> Fate {
        if !self.relays.borrow().contains_key(&stray.relay) || self.unreachable.has(stray.relay) {
            return Fate::NotWanted;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        // A full queue is a full network.
        let _ = self.sending.try_send((stray.relay, Packet::new(false, stray.from, stray.bytes)));
        Fate::Taken
    }

    fn answer(&self, answer: Answer) {
        let _ = self.sending.try_send((answer.via, Packet::new(true, answer.to, &answer.bytes)));
    }
}

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packets")
    }
}

impl Unreachable {
    fn has(&self, relay: RelayNumber) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&relay).copied();
        since.is_some_and(|since| since.elapsed() < PAUSE)
    }

    fn note(&self, relay: RelayNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(relay, Instant::now());
    }
}

impl Carrying {
    /// Until the relay ends.
    pub(super) async fn run(mut self, cluster: Arc<Cluster>, ending: CancellationToken) {
        let mut ways: HashMap<RelayNumber, mpsc::Sender<Packet>> = HashMap::new();
        while let Some(Some((relay, packet))) = ending.run_until_cancelled(self.to_send.recv()).await {
            let way = ways.entry(relay).or_insert_with(|| self.way(relay, &cluster, &ending));
            if let Err(mpsc::error::TrySendError::Closed(packet)) = way.try_send(packet) {
                let way = self.way(relay, &cluster, &ending);
                let _ = way.try_send(packet);
                ways.insert(relay, way);
            }
        }
    }

    /// A stream to a relay, as a queue; it closes when the stream breaks.
    fn way(
        &self,
        relay: RelayNumber,
        cluster: &Arc<Cluster>,
        ending: &CancellationToken,
    ) -> mpsc::Sender<Packet> {
        let (sender, packets) = mpsc::channel(MAX_WAITING);
        let (cluster, ending, unreachable) = (cluster.clone(), ending.clone(), self.unreachable.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = ending.run_until_cancelled(carry(&cluster, relay, packets)).await {
                debug!(%relay, %error, "packets for another relay do not get there");
                unreachable.note(relay);
            }
        });
        sender
    }
}

async fn carry(
    cluster: &Cluster,
    relay: RelayNumber,
    mut packets: mpsc::Receiver<Packet>,
) -> Result<(), String> {
    let mut there = cluster.open_stream(relay).await.map_err(|error| error.to_string())?;
    let send = &mut there.stream.send;
    send.write_frame(&Opening {}.to_frame()).await.map_err(|error| error.to_string())?;
    while let Some(packet) = packets.recv().await {
        send.write_frame(&packet.to_frame()).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Takes what another relay sends on a stream that began with [`Opening`].
pub(super) async fn take(
    crossing: &Crossing,
    stream: &mut Stream,
    via: RelayNumber,
) -> Result<(), StreamError> {
    while let Some(frame) = stream.recv.read_frame().await? {
        let packet = Packet::from_frame(&frame)?;
        // What cannot be delivered is lost, as on any network.
        let Some(peer) = packet.peer() else { continue };
        if packet.is_answer {
            crossing.send_answer(peer, &packet.datagram);
        } else {
            crossing.deliver(Forwarded { via, from: peer, bytes: Bytes::from(packet.datagram) });
        }
    }
    Ok(())
}

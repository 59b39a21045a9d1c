//! Real connections over a line made of numbers: it is as late as the next event says, and no packet leaves the process.

use super::super::super::{client_alpn, transport_config};
use super::speaker::Speaker;
use bytes::BytesMut;
use converge_certs::{Identity, Trust, TrustConfig};
use quinn::{
    congestion::ControllerFactory,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    ServerConfig, StreamId, TransportConfig,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

const MTU: u16 = 1452;

pub(super) type Control = Arc<dyn ControllerFactory + Send + Sync>;

/// One hop that all flows share, on the way to the receivers. The way back has room for everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) bytes_per_second: u32,
    pub(super) one_way: Duration,
    /// How many bytes may wait for the hop.
    pub(super) queue: u32,
    /// The part of the packets that vanishes, each way.
    pub(super) loss: f64,
    /// So much later, at most, is each packet, without overtaking.
    pub(super) jitter: Duration,
    /// About so often do the machines at the ends get to reading.
    pub(super) turns: Duration,
    /// When those machines do nothing at all, as when others have their processors.
    pub(super) away: Away,
}

/// From time to time, by chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    /// How long it is until they may come or go. Zero: they are always there.
    pub(super) slot: Duration,
    /// The part of the slots in which they are away.
    pub(super) part: f64,
    /// Both ends at once, or each by itself.
    pub(super) together: bool,
}

impl Away {
    /// When what is due at `due`, since the start, is done.
    fn back(&self, end: usize, mut due: Duration) -> Duration {
        if self.slot.is_zero() {
            return due;
        }
        loop {
            let slot = u64::try_from(due.as_nanos() / self.slot.as_nanos()).unwrap();
            let seed = 2 * slot + u64::from(!self.together && end % 2 == 1);
            if !SmallRng::seed_from_u64(seed).random_bool(self.part) {
                return due;
            }
            due = self.slot * u32::try_from(slot + 1).unwrap();
        }
    }
}

/// A flow that sends all it can.
pub(super) struct Flow {
    pub(super) begins: Duration,
    pub(super) control: Control,
}

/// What came of it while it was watched.
pub(super) struct Outcome {
    /// What each flow brought over, as a part of what the line takes.
    pub(super) shares: Vec<f64>,
    /// How long packets waited for the hop.
    pub(super) mean_wait: Duration,
    pub(super) longest_wait: Duration,
    /// The part of the packets for which there was no room.
    pub(super) overflow: f64,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<_> = self.shares.iter().map(|share| format!("{:.1} %", share * 100.0)).collect();
        let (mean, longest) = (self.mean_wait.as_secs_f64() * 1e3, self.longest_wait.as_secs_f64() * 1e3);
        write!(f, "{}; waits {mean:.1} ms, at most {longest:.1}", shares.join(" and "))?;
        write!(f, "; no room for {:.2} %", self.overflow * 100.0)
    }
}

/// The line becomes another one.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) at: Duration,
    pub(super) line: Line,
}

impl Line {
    /// Runs these flows until `begin`, and then watches them for a while.
    pub(super) fn run(self, flows: Vec<Flow>, begin: Duration, watch: Duration) -> Outcome {
        self.run_and_change(flows, None, begin, watch)
    }

    /// The same; the change comes after all flows have begun, and before they are watched.
    pub(super) fn run_and_change(
        self,
        flows: Vec<Flow>,
        change: Option<Change>,
        begin: Duration,
        watch: Duration,
    ) -> Outcome {
        let uses = flows.iter().map(|_| [Use::Fills, Use::Counts(0.0)]).collect();
        let start = Instant::now();
        let mut world = World::new(self, start, uses);
        let mut dials: Vec<_> = flows.into_iter().enumerate().collect();
        dials.sort_by_key(|(_, flow)| flow.begins);
        let mut dials = dials.into_iter().peekable();
        while dials.peek().is_some_and(|(_, flow)| flow.begins < begin) {
            let (number, flow) = dials.next().unwrap();
            world.run_until(start + flow.begins);
            world.dial(2 * number, flow.control);
        }
        if let Some(Change { at, line }) = change {
            world.run_until(start + at);
            world.hop.line = line;
        }
        world.run_until(start + begin);
        let before = world.received();
        world.hop.seen = Seen::default();
        world.run_until(start + begin + watch);
        let all = f64::from(world.hop.line.bytes_per_second) * watch.as_secs_f64();
        let seen = &world.hop.seen;
        Outcome {
            shares: world.received().iter().zip(before).map(|(now, then)| (now - then) / all).collect(),
            mean_wait: seen.waited.div_f64(f64::from(seen.offered.max(1))),
            longest_wait: seen.longest,
            overflow: f64::from(seen.no_room) / f64::from(seen.offered.max(1)),
        }
    }

    /// Types for so long, and returns how long the echo of each key took.
    pub(super) fn type_keys(self, control: Control, time: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let speakers = Speaker::pair(start).map(|speaker| Use::Speaks(Box::new(speaker)));
        let mut world = World::new(self, start, vec![speakers]);
        world.dial(0, control);
        world.run_until(start + time);
        match &world.ends[0].used {
            Use::Speaks(speaker) => speaker.times().to_vec(),
            Use::Fills | Use::Counts(_) => Vec::new(),
        }
    }
}

/// The hop, and how it is used.
struct Hop {
    line: Line,
    /// When what waits will have gone over it.
    free_at: Instant,
    /// The last arrival, each way.
    last: [Instant; 2],
    /// When the machine there reads next, each way.
    turn: [Instant; 2],
    chance: SmallRng,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    offered: u32,
    no_room: u32,
    waited: Duration,
    longest: Duration,
}

impl Hop {
    fn new(line: Line, now: Instant) -> Self {
        Self {
            line,
            free_at: now,
            last: [now; 2],
            turn: [now; 2],
            chance: SmallRng::seed_from_u64(7),
            seen: Seen::default(),
        }
    }

    /// When a packet arrives, if it does.
    fn pass(&mut self, now: Instant, to_receiver: bool, bytes: usize) -> Option<Instant> {
        let Line { bytes_per_second, one_way, queue, loss, jitter, turns, away: _ } = self.line;
        if self.chance.random_bool(loss) {
            return None;
        }
        let mut leaves = now;
        if to_receiver {
            let wait = self.free_at.saturating_duration_since(now);
            let time_of = |bytes: f64| Duration::from_secs_f64(bytes / f64::from(bytes_per_second));
            self.seen.offered += 1;
            if wait > time_of(f64::from(queue)) {
                self.seen.no_room += 1;
                return None;
            }
            self.seen.waited += wait;
            self.seen.longest = self.seen.longest.max(wait);
            leaves = now + wait + time_of(f64::from(u32::try_from(bytes).unwrap()));
            self.free_at = leaves;
        }
        let last = &mut self.last[usize::from(to_receiver)];
        let late = jitter.mul_f64(self.chance.random::<f64>());
        *last = (*last).max(leaves + one_way + late);
        let turn = &mut self.turn[usize::from(to_receiver)];
        while !turns.is_zero() && *turn < *last {
            *turn += turns.mul_f64(self.chance.random_range(0.5..1.5));
        }
        Some((*last).max(*turn))
    }
}

/// Datagrams by the time at which they arrive, and then by the order in which they were sent.
#[derive(Default)]
struct UnderWay {
    times: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, (usize, BytesMut)>,
    sent: u64,
}

impl UnderWay {
    fn add(&mut self, at: Instant, to: usize, datagram: BytesMut) {
        self.sent += 1;
        self.times.push(Reverse((at, self.sent)));
        self.datagrams.insert(self.sent, (to, datagram));
    }

    fn next(&self) -> Option<Instant> {
        self.times.peek().map(|Reverse((at, _))| *at)
    }

    fn pop(&mut self) -> Option<(usize, BytesMut)> {
        let Reverse((_, number)) = self.times.pop()?;
        self.datagrams.remove(&number)
    }
}

/// What a connection is for at one end.
enum Use {
    /// Sends all that there is room for.
    Fills,
    /// Counts the bytes that arrive.
    Counts(f64),
    Speaks(Box<Speaker>),
}

/// One end of a flow.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    stream: Option<StreamId>,
    used: Use,
}

impl End {
    fn new(server: Option<ServerConfig>, used: Use) -> Self {
        let endpoint =
            Endpoint::new(Arc::new(EndpointConfig::default()), server.map(Arc::new), false, Some([7; 32]));
        Self { endpoint, connection: None, stream: None, used }
    }

    fn sender(used: Use) -> Self {
        Self::new(None, used)
    }

    fn receiver(identity: &Identity, used: Use) -> Self {
        let tls = identity.server_config(&client_alpn()).unwrap();
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        Self::new(Some(config), used)
    }

    fn timeout(&mut self) -> Option<Instant> {
        let (_, connection) = self.connection.as_mut()?;
        let speaker = match &self.used {
            Use::Speaks(speaker) => speaker.poll_timeout(),
            Use::Fills | Use::Counts(_) => None,
        };
        connection.poll_timeout().into_iter().chain(speaker).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(now);
        }
        if let Use::Speaks(speaker) = &mut self.used {
            speaker.handle_timeout(now);
        }
    }
}

fn transport() -> TransportConfig {
    let mut transport = transport_config(1, MTU);
    // Not searched for: what is under way is to be alike from the start.
    transport.initial_mtu(MTU).mtu_discovery_config(None);
    transport
}

struct World {
    start: Instant,
    now: Instant,
    hop: Hop,
    under_way: UnderWay,
    /// Senders are even, and the receiver of each is behind it.
    ends: Vec<End>,
}

impl World {
    /// With two ends for each flow.
    fn new(line: Line, start: Instant, uses: Vec<[Use; 2]>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let identity = Identity::self_signed(files.path(), &["line".to_owned()]).unwrap();
        let ends = uses.into_iter();
        let ends =
            ends.flat_map(|[sends, receives]| [End::sender(sends), End::receiver(&identity, receives)]);
        let (hop, under_way) = (Hop::new(line, start), UnderWay::default());
        Self { start, now: start, hop, under_way, ends: ends.collect() }
    }

    fn received(&self) -> Vec<f64> {
        let counted = self.ends.iter().map(|end| &end.used);
        counted.filter_map(|used| if let Use::Counts(bytes) = used { Some(*bytes) } else { None }).collect()
    }

    fn dial(&mut self, sender: usize, control: Control) {
        let tls = TrustConfig::new(Trust::Insecure).unwrap().client_config(&client_alpn()).unwrap();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = transport();
        transport.congestion_controller_factory(control);
        config.transport_config(Arc::new(transport));
        let end = &mut self.ends[sender];
        let address = ([127, 0, 0, 1], 1).into();
        end.connection = Some(end.endpoint.connect(self.now, config, address, "line").unwrap());
        self.work(sender);
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let timeout = (0..self.ends.len()).filter_map(|number| self.timeout(number)).min();
            let next = timeout.into_iter().chain(self.under_way.next()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            while self.under_way.next().is_some_and(|at| at <= self.now) {
                let (to, datagram) = self.under_way.pop().unwrap();
                self.arrive(to, datagram);
            }
            for number in 0..self.ends.len() {
                if self.timeout(number).is_some_and(|at| at <= self.now) {
                    self.ends[number].handle_timeout(self.now);
                    self.work(number);
                }
            }
        }
        self.now = end;
    }

    /// When an end has to look at its clock, and does.
    fn timeout(&mut self, number: usize) -> Option<Instant> {
        let due = self.ends[number].timeout()?.saturating_duration_since(self.start);
        Some(self.start + self.hop.line.away.back(number, due))
    }

    fn arrive(&mut self, to: usize, datagram: BytesMut) {
        let end = &mut self.ends[to];
        let mut answer = Vec::new();
        match end.endpoint.handle(self.now, ([127, 0, 0, 1], 1).into(), None, None, datagram, &mut answer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = end.endpoint.accept(incoming, self.now, &mut answer, None);
                end.connection = Some(accepted.map_err(|error| error.cause).unwrap());
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                end.connection.as_mut().unwrap().1.handle_event(event);
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.work(to);
    }

    /// Everything that an end has to do now.
    fn work(&mut self, number: usize) {
        let Self { start, now, hop, under_way, ends } = self;
        let End { endpoint, connection, stream, used } = &mut ends[number];
        let Some((handle, connection)) = connection else { return };
        let sends = number.is_multiple_of(2);
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected if sends => *stream = connection.streams().open(Dir::Bi),
                Event::ConnectionLost { reason } => panic!("a connection broke: {reason}"),
                _ => {}
            }
        }
        if !sends && stream.is_none() {
            *stream = connection.streams().accept(Dir::Bi);
        }
        match (*stream, used) {
            (Some(stream), Use::Fills) => {
                while connection.send_stream(stream).write(&[0; 8 * 1024]).is_ok() {}
            }
            (Some(stream), Use::Speaks(speaker)) => speaker.work(*now, connection, stream),
            (Some(stream), Use::Counts(received)) => {
                let mut receiving = connection.recv_stream(stream);
                let mut chunks = receiving.read(true).unwrap();
                while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                    *received += f64::from(u32::try_from(chunk.bytes.len()).unwrap());
                }
                let _ = chunks.finalize();
            }
            (None, _) => {}
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(*now, 10, &mut buffer) {
            for datagram in buffer[..transmit.size].chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                if let Some(at) = hop.pass(*now, sends, datagram.len()) {
                    let at = *start + hop.line.away.back(number ^ 1, at.saturating_duration_since(*start));
                    under_way.add(at, number ^ 1, datagram.into());
                }
            }
            buffer.clear();
        }
    }
}

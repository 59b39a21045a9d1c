//! Congestion control that goes by the queue in front of the narrowest hop, and not by single losses.
//!
//! A lost packet says little on a path with radio in it, and a full queue is what makes typing slow beside a transfer. What
//! tells is the round trip: what it takes longer than at its shortest, packets spend in a queue. Each round the window goes
//! half way to where FAST TCP (Wei, Jin, Low and Hegde, IEEE/ACM Transactions on Networking 14, 2006) has it, so that as
//! much of it waits as `allowed_queue` says. That is less time for who sends more, so flows that share a hop come to
//! equal shares.
//!
//! What round trips differ by from one round to the next is no queue: a machine that is busy, or radio. That much more is
//! allowed to wait.
//!
//! Flows that go by losses fill every queue, and would leave little to one that makes room for them. Where the queue does not
//! get shorter by sending less, it is theirs, or the path has become longer: then the window is that of CUBIC (RFC 9438), and
//! every few seconds it is made small for a moment, which tells whether the queue is gone.

use quinn::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;
use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

/// RFC 9002 section 7.2.
const INITIAL_WINDOW_PACKETS: u64 = 10;
const INITIAL_WINDOW_BYTES: u64 = 14_720;
/// RFC 9002 section 7.2.
const MIN_WINDOW_PACKETS: u64 = 2;
/// A round is no shorter than this, so that there are enough packets in it to find one that was not delayed by chance.
const MIN_ROUND: Duration = Duration::from_millis(10);
/// For how long a shortest round trip is believed, at least.
const MEMORY: Duration = Duration::from_secs(10);
/// What is allowed to wait at `REFERENCE_RATE`.
const REFERENCE_QUEUE: Duration = Duration::from_millis(4);
/// Bytes per second: 100 Mbit/s.
const REFERENCE_RATE: f64 = 12_500_000.0;
/// The least that may wait: clocks and schedulers are no finer.
const MIN_QUEUE: Duration = Duration::from_millis(3);
/// The most: more is not taken for our own.
const MAX_QUEUE: Duration = Duration::from_millis(10);
/// Where packets come one later and one earlier, no queue can be told that is shorter than that, up to this.
const MAX_SPREAD: Duration = Duration::from_millis(6);
/// A queue shorter than this many times what round trips differ by cannot be told either, up to this. Or else who is on a
/// machine that is busy would take its turns for a queue, and send less and less.
const NOISES: u32 = 8;
const MAX_NOISE: Duration = Duration::from_millis(100);
/// What a round says counts for so much: one part of this many.
const NOISE_MEMORY: u32 = 8;
/// For each of these that round trips differ by, one of the last rounds is looked at, and up to so many: a queue is what none of
/// them could avoid.
const NOISE_PER_ROUND: Duration = Duration::from_millis(1);
const CALM_ROUNDS: usize = 8;
/// Of a round in which more than this part of the acknowledgements came while there was nothing to send, round trips are
/// not compared, and the window does not grow.
const IDLE: f64 = 0.125;
/// Of a slow line this many packets are more.
const MIN_QUEUE_PACKETS: u64 = 3;
/// The part of what was sent in a round that may be lost without anything being wrong.
const USUAL_LOSS: f64 = 0.05;
/// For so many rounds after more was lost the window does not grow.
const HOLD_ROUNDS: u32 = 10;
/// A mark by the network (RFC 3168) says that its queue begins; less than for a loss is due (RFC 8511).
const AFTER_MARK: f64 = 0.85;
/// The start is over after so many rounds that brought no more than the one before.
const FLAT_ROUNDS: u32 = 3;
const MORE: f64 = 1.25;
/// So many rounds without a queue, and the window grows by a part of itself.
const FREE_ROUNDS: u32 = 5;
/// A window of which less was under way does not grow, and is not what makes a queue. It may be this little where the sender
/// is kept from its turns: it sends so much at once, and not what it has missed.
const TOUCHED: f64 = 0.25;
/// So many rounds of sending less with the queue as it was, and it is not ours.
const VAIN_ROUNDS: usize = 5;
/// How often it is looked whether it still is.
const COMPETING: Duration = Duration::from_secs(5);
/// What CUBIC leaves of its window when a packet is lost (RFC 9438 section 4.6).
const CUBIC_BETA: f64 = 0.7;

/// Makes a [`Steady`] for each path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SteadyConfig;

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady::new(now, current_mtu))
    }
}

/// The controller of one path.
#[derive(Clone, Debug)]
struct Steady {
    mtu: u64,
    /// Bytes.
    window: u64,
    stage: Stage,
    base: Base,
    noise: Noise,
    /// There was not always something to send in the last round.
    was_idle: bool,
    round: Round,
    /// What the acknowledgements that came together are for. Bytes.
    batch: u64,
    /// Rounds in a row in which nothing waited.
    free: u32,
    /// Rounds for which the window does not grow.
    hold: u32,
    /// In the last round more waited than is allowed.
    has_queue: bool,
    vain: Option<Vain>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Doubles in each round, until there is a queue or no more arrives.
    Start {
        best: f64,
        flat: u32,
    },
    Cruise,
    /// Others hold the queue.
    Compete {
        cubic: Box<Cubic>,
        since: Instant,
    },
    /// Sends less for two rounds, so that the queue is empty and the path is seen as it is. Then goes back to this.
    Drain {
        back: u64,
        was: Option<Box<Cubic>>,
        rounds: u32,
    },
}

/// What a round trip takes without a queue: the shortest of this period and of the one before.
#[derive(Clone, Copy, Debug)]
struct Base {
    since: Instant,
    before: Option<Duration>,
    now: Option<Duration>,
}

/// By how much the shortest round trips go up and down again, from one round to the next. What the window does to them
/// takes longer.
#[derive(Clone, Copy, Debug, Default)]
struct Noise {
    /// The shortest round trips of the last rounds, the newest first.
    before: [Option<Duration>; CALM_ROUNDS],
    mean: Duration,
}

/// From the sending of a packet to its acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Round {
    begun: Instant,
    over: bool,
    shortest: Option<Duration>,
    /// Of all packets together.
    trips: Duration,
    packets: u32,
    /// Bytes.
    arrived: u64,
    /// Bytes.
    lost: u64,
    marked: bool,
    /// How often acknowledgements came.
    acks: u32,
    /// How often while there was nothing to send.
    idle: u32,
    /// What was under way at the same time, at most. Bytes.
    most: u64,
}

/// Rounds in a row in which the window was made smaller.
#[derive(Clone, Copy, Debug)]
struct Vain {
    rounds: usize,
    /// The window before.
    back: u64,
    /// The round trip before.
    trip: Duration,
    shortest: Duration,
}

impl Base {
    fn get(&self) -> Option<Duration> {
        [self.before, self.now].into_iter().flatten().min()
    }

    fn saw(&mut self, trip: Duration) {
        // quinn's clocks may say that it took no time.
        let trip = trip.max(Duration::from_micros(1));
        self.now = Some(self.now.map_or(trip, |shortest| shortest.min(trip)));
    }

    /// Begins a new period if this one is over; returns whether it did.
    fn turn(&mut self, now: Instant) -> bool {
        let is_over = now.saturating_duration_since(self.since) >= MEMORY;
        if is_over {
            (self.since, self.before, self.now) = (now, self.now, None);
        }
        is_over
    }
}

impl Noise {
    fn saw(&mut self, trip: Duration) {
        let step = match self.before {
            [Some(second), Some(first), ..] if (first < second) != (second < trip) => {
                first.abs_diff(second).min(second.abs_diff(trip))
            }
            _ => Duration::ZERO,
        };
        self.mean = (self.mean * (NOISE_MEMORY - 1) + step) / NOISE_MEMORY;
        self.before.rotate_right(1);
        self.before[0] = Some(trip);
    }

    /// The shortest round trip of this round and of those of the last ones that are looked at.
    fn calm(&self, trip: Duration) -> Duration {
        let before = self.before.iter().flatten().take(self.rounds());
        before.copied().fold(trip, Duration::min)
    }

    /// How many of the last rounds are looked at. Where round trips are alike, none but this one.
    fn rounds(&self) -> usize {
        let rounds = self.mean.as_nanos() / NOISE_PER_ROUND.as_nanos();
        usize::try_from(rounds).unwrap_or(usize::MAX).min(CALM_ROUNDS)
    }

    fn hides(&self) -> Duration {
        (self.mean * NOISES).min(MAX_NOISE)
    }
}

impl Round {
    fn new(begun: Instant) -> Self {
        let (shortest, trips) = (None, Duration::ZERO);
        let (packets, acks, idle, arrived, lost, most) = (0, 0, 0, 0, 0, 0);
        Self { begun, over: false, shortest, trips, packets, arrived, lost, marked: false, acks, idle, most }
    }

    /// By how much the packets of the round were later than the first of them.
    fn spread(&self) -> Duration {
        (self.trips / self.packets.max(1)).saturating_sub(self.shortest.unwrap_or_default())
    }

    fn is_idle(&self) -> bool {
        f64::from(self.idle) > f64::from(self.acks) * IDLE
    }

    /// Whether more was lost than what happens by chance where little is.
    fn lost_much(&self, mtu: u64) -> bool {
        let (lost, all) = (float(self.lost) / float(mtu), float(self.lost + self.arrived) / float(mtu));
        lost - 2.0 * lost.sqrt() > USUAL_LOSS * all
    }
}

/// Of a window that is far from what a float cannot hold.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn bytes(count: f64) -> u64 {
    count as u64
}

#[expect(clippy::cast_precision_loss, reason = "of bytes and nanoseconds, the first digits count")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Steady {
    fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            window: (INITIAL_WINDOW_PACKETS * mtu).min(INITIAL_WINDOW_BYTES.max(2 * mtu)),
            stage: Stage::Start { best: 0.0, flat: 0 },
            base: Base { since: now, before: None, now: None },
            noise: Noise::default(),
            was_idle: false,
            round: Round::new(now),
            batch: 0,
            free: 0,
            hold: 0,
            has_queue: false,
            vain: None,
        }
    }

    fn set_window(&mut self, bytes: u64) {
        self.window = bytes.max(MIN_WINDOW_PACKETS * self.mtu);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        let trip = now.saturating_duration_since(sent);
        let round = &mut self.round;
        round.shortest = Some(round.shortest.map_or(trip, |shortest| shortest.min(trip)));
        round.trips += trip;
        round.packets += 1;
        self.batch += bytes;
        round.arrived += bytes;
        round.over |= sent >= round.begun;
        if let Stage::Compete { cubic, .. } = &mut self.stage {
            cubic.on_ack(now, sent, bytes, app_limited, rtt);
            self.window = cubic.window();
        }
    }

    fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        self.round.acks += 1;
        self.round.idle += u32::from(app_limited);
        let batch = std::mem::take(&mut self.batch);
        let under_way = in_flight + batch;
        self.round.most = self.round.most.max(under_way);
        // RFC 9002 section 7.8: a window that is not used does not grow.
        if matches!(self.stage, Stage::Start { .. }) && under_way * 2 >= self.window {
            self.set_window(self.window + batch);
        }
        let lasted = now.saturating_duration_since(self.round.begun);
        if self.round.over && lasted >= MIN_ROUND {
            let round = std::mem::replace(&mut self.round, Round::new(now));
            if let Some(trip) = round.shortest {
                self.round_ended(now, &round, trip, float(round.arrived) / lasted.as_secs_f64());
            }
        }
    }

    /// `rate`: bytes per second that arrived.
    fn round_ended(&mut self, now: Instant, round: &Round, trip: Duration, rate: f64) {
        self.base.saw(trip);
        let base = self.base.get().unwrap_or(trip);
        // Round trips of the one after are still short.
        let is_idle = round.is_idle();
        let is_idle = std::mem::replace(&mut self.was_idle, is_idle) || is_idle;
        if !is_idle {
            self.noise.saw(trip);
        }
        let trip = self.noise.calm(trip);
        let queue = trip.saturating_sub(base);
        let allowed = self.allowed_queue(rate) + self.noise.hides();
        self.has_queue = queue > allowed;
        let is_touched = float(round.most) >= float(self.window) * TOUCHED;
        let is_used = is_touched && !is_idle;
        match &mut self.stage {
            Stage::Start { best, flat } => {
                let brought_more = rate >= *best * MORE;
                *flat = if brought_more || !is_used { 0 } else { *flat + 1 };
                *best = best.max(rate);
                let is_full = queue > allowed || round.lost_much(self.mtu) || round.marked;
                if is_touched && is_full || *flat == FLAT_ROUNDS {
                    let best = *best;
                    self.stage = Stage::Cruise;
                    self.set_window(self.window.min(bytes(best * (base + allowed).as_secs_f64())));
                }
            }
            Stage::Cruise => {
                if round.lost_much(self.mtu) {
                    let left = float(round.arrived) / float(round.arrived + round.lost);
                    self.set_window(bytes(float(self.window) * left));
                    self.hold = HOLD_ROUNDS;
                } else if round.marked {
                    self.set_window(bytes(float(self.window) * AFTER_MARK));
                } else if is_touched {
                    let allowed = allowed.max(round.spread().min(MAX_SPREAD));
                    self.follow_queue(now, base, trip, rate, allowed, is_used);
                }
                if matches!(self.stage, Stage::Cruise) && self.base.turn(now) && is_touched {
                    self.drain(rate, base, None);
                }
            }
            Stage::Compete { cubic, since } => {
                self.free = if queue < allowed / 4 { self.free + 1 } else { 0 };
                if self.free > FREE_ROUNDS {
                    self.stage = Stage::Cruise;
                } else if now.saturating_duration_since(*since) > COMPETING {
                    self.base.turn(now);
                    let was = Some(cubic.clone());
                    self.drain(rate, base, was);
                }
            }
            Stage::Drain { rounds: left @ 2.., .. } => *left -= 1,
            Stage::Drain { back, was, .. } => {
                let (back, was) = (*back, was.take());
                self.stage = match was {
                    Some(cubic) if queue > allowed => Stage::Compete { cubic, since: now },
                    _ => Stage::Cruise,
                };
                self.set_window(back);
            }
        }
    }

    /// What may wait of a flow that sends so many bytes per second, as time. Falls with the rate, but slowly: where it is far
    /// too much, the queue is of others.
    fn allowed_queue(&self, rate: f64) -> Duration {
        let rate = rate.max(1.0);
        let packets = Duration::from_secs_f64((float(MIN_QUEUE_PACKETS * self.mtu) / rate).min(1.0));
        REFERENCE_QUEUE.mul_f64((REFERENCE_RATE / rate).powf(0.25)).clamp(MIN_QUEUE, MAX_QUEUE).max(packets)
    }

    fn drain(&mut self, rate: f64, base: Duration, was: Option<Box<Cubic>>) {
        self.stage = Stage::Drain { back: self.window, was, rounds: 2 };
        self.set_window(bytes(rate * base.as_secs_f64() * 0.9));
    }

    fn follow_queue(
        &mut self,
        now: Instant,
        base: Duration,
        trip: Duration,
        rate: f64,
        allowed: Duration,
        is_used: bool,
    ) {
        let queue = trip.saturating_sub(base);
        let window = float(self.window);
        let wanted = window * base.as_secs_f64() / trip.as_secs_f64() + rate * allowed.as_secs_f64();
        let mut next = f64::midpoint(window, wanted);
        self.free = if queue < allowed / 4 { self.free + 1 } else { 0 };
        if self.free > FREE_ROUNDS {
            next = next.max(window * 1.0625);
        }
        if self.hold > 0 || !is_used {
            self.hold = self.hold.saturating_sub(1);
            self.free = 0;
            next = next.min(window);
        }
        self.set_window(bytes(next));
        if next >= window || queue * 3 <= allowed * 4 {
            self.vain = None;
            return;
        }
        let vain = self.vain.get_or_insert(Vain { rounds: 0, back: bytes(window), trip, shortest: trip });
        vain.rounds += 1;
        vain.shortest = vain.shortest.min(trip);
        if vain.rounds > VAIN_ROUNDS + self.noise.rounds() {
            let Vain { back, trip: before, shortest, .. } = *vain;
            self.vain = None;
            if shortest.saturating_sub(base) * 4 > before.saturating_sub(base) * 3 {
                self.compete(now, back);
            }
        }
    }

    /// Goes on with CUBIC, from this window.
    fn compete(&mut self, now: Instant, window: u64) {
        let mut config = CubicConfig::default();
        config.initial_window(bytes(float(window) / CUBIC_BETA));
        let mut cubic =
            Box::new(Cubic::new(Arc::new(config), now, u16::try_from(self.mtu).unwrap_or(u16::MAX)));
        // It is not at its start.
        cubic.on_congestion_event(now, now, false, 0);
        self.stage = Stage::Compete { cubic, since: now };
        self.free = 0;
        self.set_window(window);
    }
}

impl Controller for Steady {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.acked(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.round.lost += lost_bytes;
        self.round.marked |= lost_bytes == 0;
        // A loss where nothing waits is nobody's doing.
        if let Stage::Compete { cubic, .. } = &mut self.stage
            && (self.has_queue || is_persistent || lost_bytes == 0)
        {
            cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
            self.window = cubic.window();
        }
        if is_persistent {
            // RFC 9002 section 7.6.2.
            self.stage = Stage::Start { best: 0.0, flat: 0 };
            self.set_window(0);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        if let Stage::Compete { cubic, .. } = &mut self.stage {
            cubic.on_mtu_update(new_mtu);
        }
        self.set_window(self.window);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;

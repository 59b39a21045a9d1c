//! What happens when one of several relays dies and all its agents dial again: a discrete-event simulation.
//!
//! Nothing here takes real time or uses a network, and one seed gives one result. The rules are those of the programs: the
//! waits before a redial ([`Backoff`]), when silence is noticed ([`Watch`]), the limits of a relay and the library that
//! counts rates, the head start of QUIC. What is only modelled, because it is bound to sockets there: the order of a relay's
//! gate, the race of carriers and relays, and the queues of processors and of etcd.
//!
//! Where the model had a choice it took the worse one: a handshake that its dialer has given up costs the relay as much as
//! any other, every dialer tries both carriers, and a relay that is dead is the one that is tried first.

mod dialer;
mod events;
mod order;
mod report;
mod servers;

pub use report::Report;

use converge_proto::{
    Backoff, RelayUrls,
    session::{Watch, WatchAction},
};
use converge_relay::limits::MAX_CLAIMS;
use dialer::{Dialer, Event};
use events::Events;
use governor::clock::FakeRelativeClock;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use servers::{Etcd, PerSecond, Relay};
use std::time::{Duration, Instant};

/// A cluster that loses a relay.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Agents, spread evenly.
    pub agents: u32,
    /// Relays, with the one that dies.
    pub relays: u16,
    /// Sessions per thousand agents. Those of the dead relay dial again too.
    pub sessions_per_thousand: u32,
    /// How dialers learn of the death.
    pub notice: Notice,
    /// How they wait.
    pub redials: Redials,
    /// Whether relays limit what begins.
    pub limited: Limited,
    /// What a relay runs on.
    pub machine: Machine,
    /// Registrations of which a relay asks etcd at the same time; nothing: any number.
    pub claims_at_once: Option<usize>,
    /// Transactions that etcd makes in a second.
    pub etcd_writes_per_second: u32,
    /// For everything that is a matter of chance.
    pub seed: u64,
}

/// How dialers learn that their relay has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The system of the relay, or a balancer, says so at once.
    Told,
    /// Nobody says anything: they ask, and get no answer.
    Silence,
}

/// How dialers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redials {
    /// As [`Backoff`] says.
    BackOff,
    /// Not at all, and a carrier that is not ready in a moment is given up: what must not be, to see that the model can tell.
    AtOnce,
}

/// Whether relays limit what begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// As they do unless told otherwise.
    Yes,
    /// As with `--handshake-rate 0 --max-handshakes 0`, and without Retry.
    No,
}

/// What a relay runs on, and what things cost it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores.
    pub cores: usize,
    /// Processor time of a handshake, on either carrier.
    pub handshake: Duration,
    /// Of a registration, after that.
    pub registration: Duration,
    /// Of saying no.
    pub refusal: Duration,
    /// Of an idle agent, per second.
    pub idle: Duration,
}

impl Default for Machine {
    /// Two cores, and what was measured (docs/scaling.md), rounded up.
    fn default() -> Self {
        Self {
            cores: 2,
            handshake: Duration::from_micros(750),
            registration: Duration::from_micros(250),
            refusal: Duration::from_micros(50),
            idle: Duration::from_micros(10),
        }
    }
}

impl Setting {
    /// That many agents on so many relays, by the rules.
    pub fn new(agents: u32, relays: u16) -> Self {
        Self {
            agents,
            relays,
            sessions_per_thousand: 100,
            notice: Notice::Told,
            redials: Redials::BackOff,
            limited: Limited::Yes,
            machine: Machine::default(),
            claims_at_once: Some(MAX_CLAIMS),
            etcd_writes_per_second: ETCD_WRITES_PER_SECOND,
            seed: 1,
        }
    }

    /// Plays it, until all are back or for ten minutes.
    ///
    /// # Panics
    /// With fewer than two relays or without a core: there is nothing to play.
    pub fn run(&self) -> Report {
        assert!(self.relays >= 2 && self.machine.cores > 0, "one relay dies, and another one is left");
        let (mut world, mut events) = (World::new(self), 0);
        while let Some(event) = world.events.next() {
            events += 1;
            if world.events.now() > LONGEST || events > MOST_EVENTS || world.back.len() == world.dialers.len()
            {
                break;
            }
            world.handle(event);
        }
        world.report()
    }
}

/// What etcd is taken to do: below what was measured on a slow disk (docs/scaling.md).
const ETCD_WRITES_PER_SECOND: u32 = 2000;
/// By then what has not come back does not.
const LONGEST: Duration = Duration::from_mins(10);
/// A storm that has made so many events goes on for ever.
const MOST_EVENTS: u64 = 6_000_000;
/// Round-trip times of dialers, in ms.
const ROUND_TRIP_MS: std::ops::Range<f64> = 10.0..150.0;

/// Everything there is.
struct World<'a> {
    setting: &'a Setting,
    random: StdRng,
    clock: FakeRelativeClock,
    clock_shows: Duration,
    events: Events<Event>,
    /// Without the dead one, which is number 0.
    relays: Vec<Relay>,
    etcd: Etcd,
    dialers: Vec<Dialer>,
    /// When each one was back, in that order.
    back: Vec<Duration>,
    redials: PerSecond,
    counts: report::Counts,
}

impl<'a> World<'a> {
    fn new(setting: &'a Setting) -> Self {
        let mut random = StdRng::seed_from_u64(setting.seed);
        let clock = FakeRelativeClock::default();
        let agents = setting.agents.div_ceil(setting.relays.into());
        let sessions = agents * setting.sessions_per_thousand / 1000;
        // The idle ones of the relays that stay take their part of the cores.
        let idle = setting.machine.idle.as_secs_f64() * f64::from(agents);
        let cores = f64::from(u32::try_from(setting.machine.cores).unwrap_or(u32::MAX));
        let slower = cores / (cores - idle).max(cores / 100.0);
        let machine = Machine {
            handshake: setting.machine.handshake.mul_f64(slower),
            registration: setting.machine.registration.mul_f64(slower),
            refusal: setting.machine.refusal.mul_f64(slower),
            ..setting.machine
        };
        let relay = || Relay::new(setting.limited, &machine, &clock);
        let relays = (1..setting.relays).map(|_| relay()).collect();
        let mut events = Events::new();
        let mut dialers = Vec::new();
        for number in 0..agents + sessions {
            let round_trip = Duration::from_secs_f64(random.random_range(ROUND_TRIP_MS) / 1000.0);
            let mut dialer = Dialer::new(number < agents, round_trip, known(setting.relays, &mut random));
            let notices = match setting.notice {
                Notice::Told => round_trip / 2 + wait(&mut dialer.backoff, setting.redials, &mut random),
                Notice::Silence => silence(random.random_range(0.0..1.0)),
            };
            events.at(notices, Event::Dial(number));
            dialers.push(dialer);
        }
        Self {
            setting,
            random,
            clock,
            clock_shows: Duration::ZERO,
            events,
            relays,
            etcd: Etcd::new(setting.etcd_writes_per_second),
            dialers,
            back: Vec::new(),
            redials: PerSecond::default(),
            counts: report::Counts { machine, ..report::Counts::default() },
        }
    }
}

/// Some of the relays, the dead one first.
fn known(relays: u16, random: &mut impl Rng) -> Vec<u16> {
    use rand::seq::SliceRandom;
    let mut others: Vec<u16> = (1..relays).collect();
    let (some, _) = others.partial_shuffle(random, RelayUrls::MAX - 1);
    std::iter::once(0).chain(some.iter().copied()).collect()
}

/// When a dialer suspects a relay that has said nothing since time 0: its link was idle, and something had arrived at a
/// random time before.
fn silence(random: f64) -> Duration {
    // Any will do: only differences count.
    let heard = Instant::now();
    let dies = heard + Watch::IDLE.mul_f64(random);
    let mut watch = Watch::new((Watch::IDLE, Watch::IDLE), heard);
    loop {
        let due = watch.poll_timeout();
        if watch.handle_timeout(due) == WatchAction::Suspect {
            return due - dies;
        }
    }
}

/// How long to wait before the next dial.
fn wait(backoff: &mut Backoff, redials: Redials, random: &mut impl Rng) -> Duration {
    match redials {
        Redials::BackOff => backoff.next(random.random_range(0.0..1.0)),
        Redials::AtOnce => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;

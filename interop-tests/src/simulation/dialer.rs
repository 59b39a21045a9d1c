//! Agents and clients that look for another relay, and what they meet there.

use super::{Redials, World, order::Known, servers::Verdict, wait};
use converge_proto::Backoff;
use converge_relay::limits::{CLAIM_WAIT, FIRST_WORD_TIMEOUT};
use converge_transport::dial::{CARRIER_TIMEOUT, HEAD_START, NEXT_RELAY};
use std::time::Duration;

/// When those give up who have no patience.
const IMPATIENCE: Duration = Duration::from_millis(250);
/// How much longer QUIC may say nothing after WebSocket has failed (`transport/src/dial/race.rs`).
const QUIC_LAST_CHANCE: Duration = Duration::from_secs(2);
/// When an agent gives a registration up (`agent/src/relay/registration.rs`).
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(15);
/// When a relay gives etcd up (`relay/src/registry/etcd/store.rs`).
const ETCD_TIMEOUT: Duration = Duration::from_secs(3);
/// When a first packet that nobody has answered is sent again; twice as long each time (RFC 9002 section 6.2.2).
const FIRST_PROBE: Duration = Duration::from_secs(1);

/// One who was at the dead relay.
#[derive(Debug)]
pub(super) struct Dialer {
    is_agent: bool,
    round_trip: Duration,
    known: Known,
    pub(super) backoff: Backoff,
    /// Counts dials, and what else makes earlier answers worthless.
    dial: u32,
    /// Relays that this dial has not tried yet, the next one last.
    left: Vec<u16>,
    tries: Vec<Attempt>,
    paused: u32,
    pub(super) dials: u32,
    /// At which relay it is written, or will be.
    written: Option<(u16, Duration)>,
}

/// A dial's try of one relay.
#[derive(Debug)]
struct Attempt {
    relay: u16,
    quic: State,
    websocket: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotBegun,
    Going,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Quic,
    WebSocket,
}

/// One carrier to one relay in one dial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    dialer: u32,
    dial: u32,
    attempt: u16,
    carrier: Carrier,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A dialer has waited long enough.
    Dial(u32),
    /// The last relay that was begun with has been alone for long enough.
    NextRelay { dialer: u32, dial: u32, paused: u32 },
    /// QUIC has.
    HeadStart(Try),
    /// Something arrives at a relay for the first time.
    Arrives { of: Try, proven: bool, probe: u32 },
    /// A relay has worked a handshake off.
    Worked { of: Try, relay: u16, took: Duration },
    /// A handshake of QUIC is over.
    Shaken(u16),
    /// It failed, or took too long.
    Failed(Try),
    /// A link is there.
    Ready(Try),
    /// A registration arrives, or a client's first frame.
    Registers { dialer: u32, dial: u32, relay: u16 },
    /// It was worked off, but for etcd.
    Checked(Claim),
    /// It has waited for etcd for too long.
    WaitedTooLong(Claim),
    /// A relay has an answer of etcd, or none.
    Freed(u16),
    /// etcd has written.
    Written,
    /// The dialer hears how that went.
    Answered { dialer: u32, dial: u32, is_in: bool },
}

/// A registration at the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    dialer: u32,
    dial: u32,
    relay: u16,
}

impl Dialer {
    pub(super) fn new(is_agent: bool, round_trip: Duration, relays: Vec<u16>) -> Self {
        Self {
            is_agent,
            round_trip,
            known: Known::new(relays),
            backoff: Backoff::new(),
            dial: 0,
            left: Vec::new(),
            tries: Vec::new(),
            paused: 0,
            dials: 0,
            written: None,
        }
    }
}

impl World<'_> {
    fn dialer(&mut self, number: u32) -> &mut Dialer {
        &mut self.dialers[number as usize]
    }

    /// The relay of a try that its dialer still waits for.
    fn live(&self, of: Try) -> Option<u16> {
        let dialer = &self.dialers[of.dialer as usize];
        let attempt = dialer.tries.get(usize::from(of.attempt)).filter(|_| dialer.dial == of.dial)?;
        let state = match of.carrier {
            Carrier::Quic => attempt.quic,
            Carrier::WebSocket => attempt.websocket,
        };
        (state == State::Going).then_some(attempt.relay)
    }

    pub(super) fn handle(&mut self, event: Event) {
        let now = self.events.now();
        self.clock.advance(now.saturating_sub(self.clock_shows));
        self.clock_shows = now;
        match event {
            Event::Dial(number) => {
                self.redials.count(now);
                let (dialer, random) = (&mut self.dialers[number as usize], &mut self.random);
                dialer.dial += 1;
                dialer.dials += 1;
                dialer.tries.clear();
                dialer.left = dialer.known.order(now, random);
                dialer.left.reverse();
                self.next_relay(number);
            }
            Event::NextRelay { dialer, dial, paused } => {
                let of = self.dialer(dialer);
                if of.dial == dial && of.paused == paused {
                    self.next_relay(dialer);
                }
            }
            Event::HeadStart(of) => self.begin(of),
            Event::Arrives { of, proven, probe } => self.arrives(of, proven, probe),
            Event::Worked { of, relay, took } => {
                self.relay(relay).done();
                let round_trip = self.dialer(of.dialer).round_trip;
                let way = if of.carrier == Carrier::Quic {
                    self.events.after(round_trip, Event::Shaken(relay));
                    round_trip / 2
                } else {
                    // The opening handshake of WebSocket is one more round trip.
                    round_trip * 3 / 2
                };
                if took < FIRST_WORD_TIMEOUT {
                    self.events.after(way, Event::Ready(of));
                }
            }
            Event::Shaken(relay) => self.relay(relay).shaken(),
            Event::Failed(of) => self.failed(of),
            Event::Ready(of) => {
                if let Some(relay) = self.live(of) {
                    let dialer = self.dialer(of.dialer);
                    // The others are dropped.
                    dialer.dial += 1;
                    let (dial, way) = (dialer.dial, dialer.round_trip / 2);
                    let dialer = of.dialer;
                    self.events.after(way, Event::Registers { dialer, dial, relay });
                    self.events.after(REGISTRATION_TIMEOUT, Event::Answered { dialer, dial, is_in: false });
                }
            }
            Event::Registers { dialer, dial, relay } => {
                let cost = self.counts.machine.registration;
                let done = self.relay(relay).work(cost, now);
                self.events.at(done, Event::Checked(Claim { dialer, dial, relay }));
            }
            Event::Checked(claim) => {
                self.relay(claim.relay).done();
                self.claim(claim);
            }
            Event::WaitedTooLong(claim) => {
                let waiting = &mut self.relay(claim.relay).waiting;
                if let Some(place) = waiting.iter().position(|waits| *waits == claim) {
                    waiting.remove(place);
                    self.answer(claim, now, false);
                }
            }
            Event::Freed(relay) => {
                let server = self.relay(relay);
                server.claims -= 1;
                if let Some(claim) = server.waiting.pop_front() {
                    self.claim(claim);
                }
            }
            Event::Written => self.etcd.done(now),
            Event::Answered { dialer: number, dial, is_in } => {
                let (dialer, random) = (&mut self.dialers[number as usize], &mut self.random);
                if dialer.dial != dial {
                    return;
                }
                dialer.dial += 1;
                if is_in {
                    self.back.push(now);
                } else {
                    self.counts.refused_registrations += 1;
                    let pause = wait(&mut dialer.backoff, self.setting.redials, random);
                    self.events.after(pause, Event::Dial(number));
                }
            }
        }
    }

    fn relay(&mut self, number: u16) -> &mut super::Relay {
        &mut self.relays[usize::from(number) - 1]
    }

    /// Begins with the next relay of a dial, if there is one.
    fn next_relay(&mut self, number: u32) {
        let dialer = self.dialer(number);
        let Some(relay) = dialer.left.pop() else { return };
        dialer.tries.push(Attempt { relay, quic: State::NotBegun, websocket: State::NotBegun });
        dialer.paused += 1;
        let (dial, paused) = (dialer.dial, dialer.paused);
        let attempt = u16::try_from(dialer.tries.len() - 1).unwrap_or(u16::MAX);
        let of = Try { dialer: number, dial, attempt, carrier: Carrier::Quic };
        self.events.after(NEXT_RELAY, Event::NextRelay { dialer: number, dial, paused });
        self.events.after(HEAD_START, Event::HeadStart(Try { carrier: Carrier::WebSocket, ..of }));
        self.begin(of);
    }

    /// Begins with a carrier, unless that was done.
    fn begin(&mut self, of: Try) {
        let dialer = self.dialer(of.dialer);
        let round_trip = dialer.round_trip;
        let Some(attempt) = dialer.tries.get_mut(usize::from(of.attempt)).filter(|_| dialer.dial == of.dial)
        else {
            return;
        };
        let (state, way) = match of.carrier {
            Carrier::Quic => (&mut attempt.quic, round_trip / 2),
            // The relay sees a connection once TCP's own handshake is over.
            Carrier::WebSocket => (&mut attempt.websocket, round_trip * 3 / 2),
        };
        if *state != State::NotBegun {
            return;
        }
        *state = State::Going;
        let relay = attempt.relay;
        let patience = match self.setting.redials {
            Redials::BackOff => CARRIER_TIMEOUT,
            Redials::AtOnce => IMPATIENCE,
        };
        self.events.after(patience, Event::Failed(of));
        if relay > 0 {
            self.events.after(way, Event::Arrives { of, proven: false, probe: 0 });
        } else if of.carrier == Carrier::WebSocket && self.setting.notice == super::Notice::Told {
            // Nobody listens there, and its system says so.
            self.events.after(round_trip, Event::Failed(of));
        }
    }

    fn arrives(&mut self, of: Try, proven: bool, probe: u32) {
        let now = self.events.now();
        let Some(relay) = self.live(of) else { return };
        let round_trip = self.dialer(of.dialer).round_trip;
        let super::Machine { handshake, refusal, .. } = self.counts.machine;
        let server = self.relay(relay);
        let verdict = match of.carrier {
            Carrier::Quic => server.quic(proven),
            Carrier::WebSocket => server.tcp(),
        };
        if !proven {
            server.begun.count(now);
        }
        if verdict == Verdict::Accept {
            let done = server.work(handshake, now);
            self.counts.handshakes += 1;
            self.events.at(done, Event::Worked { of, relay, took: done.saturating_sub(now) });
            return;
        }
        server.busy(refusal, now);
        match verdict {
            Verdict::Accept => {}
            Verdict::Retry => {
                self.counts.retries += 1;
                self.events.after(round_trip, Event::Arrives { of, proven: true, probe });
            }
            Verdict::Refuse => {
                self.counts.refused += 1;
                self.events.after(round_trip / 2, Event::Failed(of));
            }
            Verdict::Ignore => {
                self.counts.ignored += 1;
                let wait = FIRST_PROBE * 2u32.pow(probe.min(8));
                self.events.after(wait, Event::Arrives { of, proven, probe: probe + 1 });
            }
        }
    }

    /// A carrier has failed: the other one begins at once, or the relay has failed and the next one begins.
    fn failed(&mut self, of: Try) {
        let Some(relay) = self.live(of) else { return };
        let now = self.events.now();
        let dialer = self.dialer(of.dialer);
        let attempt = &mut dialer.tries[usize::from(of.attempt)];
        match of.carrier {
            Carrier::Quic => attempt.quic = State::Failed,
            Carrier::WebSocket => attempt.websocket = State::Failed,
        }
        match (attempt.quic, attempt.websocket) {
            (State::Failed, State::NotBegun) => {
                self.begin(Try { carrier: Carrier::WebSocket, ..of });
                return;
            }
            (State::Going, State::Failed) => {
                self.events.after(QUIC_LAST_CHANCE, Event::Failed(Try { carrier: Carrier::Quic, ..of }));
                return;
            }
            (State::Failed, State::Failed) => dialer.known.failed(relay, now),
            _ => return,
        }
        let has_failed =
            |attempt: &Attempt| (attempt.quic, attempt.websocket) == (State::Failed, State::Failed);
        if dialer.left.is_empty() && dialer.tries.iter().all(has_failed) {
            dialer.dial += 1;
            let (dialer, random) = (&mut self.dialers[of.dialer as usize], &mut self.random);
            let pause = wait(&mut dialer.backoff, self.setting.redials, random);
            self.events.after(pause, Event::Dial(of.dialer));
        } else {
            self.next_relay(of.dialer);
        }
    }

    /// A registration is asked of etcd, or waits for its turn.
    fn claim(&mut self, claim: Claim) {
        let now = self.events.now();
        let most = self.setting.claims_at_once;
        let dialer = &self.dialers[claim.dialer as usize];
        let is_written_here = dialer.written.is_some_and(|(at, when)| at == claim.relay && when <= now);
        // Who does not know of a write that is under way loses against it, and writes once more.
        let is_behind = dialer.written.is_some_and(|(_, when)| when > now);
        if !dialer.is_agent || is_written_here {
            return self.answer(claim, now, true);
        }
        let server = self.relay(claim.relay);
        if most.is_some_and(|most| server.claims >= most) {
            server.waiting.push_back(claim);
            self.events.after(CLAIM_WAIT, Event::WaitedTooLong(claim));
            return;
        }
        let mut done = None;
        for _ in 0..=u32::from(is_behind) {
            done = self.etcd.write(now);
            match done {
                Some(done) => self.events.at(done, Event::Written),
                None => break,
            }
        }
        let Some(done) = done else { return self.answer(claim, now, false) };
        let gives_up = now + ETCD_TIMEOUT;
        self.dialer(claim.dialer).written = Some((claim.relay, done));
        self.relay(claim.relay).claims += 1;
        self.events.at(done.min(gives_up), Event::Freed(claim.relay));
        self.answer(claim, done.min(gives_up), done <= gives_up);
    }

    fn answer(&mut self, claim: Claim, at: Duration, is_in: bool) {
        let way = self.dialer(claim.dialer).round_trip / 2;
        let Claim { dialer, dial, .. } = claim;
        self.events.at(at + way, Event::Answered { dialer, dial, is_in });
    }
}

//! A host's way to the internet, which scenarios make worse and better while it is used.

use super::{
    conditions::{Conditions, Fate, Lane, TooLong, USUAL_MTU, Udp},
    internet::{Network, network_of},
    packet::{Packet, Refusal},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// From the host, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A host's way to the internet. Each change holds at once, in both directions, and returns the uplink, so that changes
/// can be chained.
#[derive(Debug)]
pub struct Uplink {
    network: Network,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    conditions: Conditions,
    up: Lane,
    down: Lane,
    traffic: Traffic,
}

/// What an uplink has seen so far, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the packets that went through.
    pub bytes: u64,
    /// UDP packets that went through.
    pub udp_packets: u64,
    /// Packets of other kinds that went through.
    pub other_packets: u64,
    /// Packets that were dropped or refused.
    pub lost_packets: u64,
}

impl Uplink {
    pub(super) fn new(network: Network, seed: u64) -> Self {
        let (up, down) = (Lane::new(seed), Lane::new(seed.wrapping_add(1)));
        Self {
            network,
            state: Mutex::new(State {
                conditions: Conditions::default(),
                up,
                down,
                traffic: Traffic::default(),
            }),
        }
    }

    /// Each packet takes so long each way, beside what the rate costs.
    pub fn delay(&self, delay: Duration) -> &Self {
        self.change(|conditions| conditions.delay = delay)
    }

    /// Each packet takes up to so much longer, by chance. Their order stays.
    pub fn jitter(&self, jitter: Duration) -> &Self {
        self.change(|conditions| conditions.jitter = jitter)
    }

    /// This share of all packets, from 0 to 1, is lost.
    pub fn lose(&self, share: f64) -> &Self {
        self.change(|conditions| conditions.loss = share)
    }

    /// This share of all packets, from 0 to 1, is overtaken by later ones.
    pub fn reorder(&self, share: f64) -> &Self {
        self.change(|conditions| conditions.overtaken = share)
    }

    /// No more than so many bits per second go through each way; what comes faster waits in a queue of `queue_bytes`,
    /// and is lost when that is full.
    pub fn slow(&self, bits_per_second: u32, queue_bytes: u32) -> &Self {
        self.change(|conditions| {
            conditions.bits_per_second = Some(bits_per_second);
            conditions.queue_bytes = queue_bytes;
        })
    }

    /// Longer packets come back with the ICMP message that says so, when they must not be cut.
    pub fn mtu(&self, bytes: u16) -> &Self {
        self.change(|conditions| (conditions.mtu, conditions.too_long) = (bytes, TooLong::Reported))
    }

    /// Longer packets disappear without a word: what a firewall makes of it that drops all ICMP.
    pub fn mtu_in_silence(&self, bytes: u16) -> &Self {
        self.change(|conditions| (conditions.mtu, conditions.too_long) = (bytes, TooLong::Swallowed))
    }

    /// UDP disappears without a word.
    pub fn drop_udp(&self) -> &Self {
        self.change(|conditions| conditions.udp = Udp::Dropped)
    }

    /// UDP is refused, as by a host where nobody listens.
    pub fn reject_udp(&self) -> &Self {
        self.change(|conditions| conditions.udp = Udp::Refused(Refusal::PortUnreachable))
    }

    /// UDP is refused, as by a firewall.
    pub fn prohibit_udp(&self) -> &Self {
        self.change(|conditions| conditions.udp = Udp::Refused(Refusal::Prohibited))
    }

    /// UDP passes again.
    pub fn allow_udp(&self) -> &Self {
        self.change(|conditions| conditions.udp = Udp::Passes)
    }

    /// Nothing passes, also not what is on its way.
    pub fn cut(&self) -> &Self {
        self.change(|conditions| conditions.cut = true)
    }

    /// Nothing passes from and to these others any more, also not what is on its way. All else passes as before.
    pub fn cut_from<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> &Self {
        let others = others.into_iter().map(|other| other.network);
        self.change(|conditions| conditions.apart.extend(others))
    }

    /// Everything passes that did before the cut, whatever was cut.
    pub fn heal(&self) -> &Self {
        self.change(|conditions| {
            conditions.cut = false;
            conditions.apart.clear();
        })
    }

    /// Everything passes, at once.
    pub fn clear(&self) -> &Self {
        self.change(|conditions| *conditions = Conditions::default())
    }

    /// What it has seen so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    pub(super) fn decide(&self, direction: Direction, packet: &Packet<'_>, now: Instant) -> Fate {
        let state = &mut *self.state();
        let lane = match direction {
            Direction::Up => &mut state.up,
            Direction::Down => &mut state.down,
        };
        let other = match direction {
            Direction::Up => packet.destination,
            Direction::Down => packet.source,
        };
        let fate = if state.conditions.apart.contains(&network_of(other)) {
            Fate::Lost
        } else {
            lane.decide(&state.conditions, packet, now)
        };
        match fate {
            Fate::Through(_) => {
                state.traffic.bytes += packet.bytes.len() as u64;
                if packet.is_udp {
                    state.traffic.udp_packets += 1;
                } else {
                    state.traffic.other_packets += 1;
                }
            }
            Fate::Lost | Fate::Refused(_) => state.traffic.lost_packets += 1,
        }
        fate
    }

    /// Whether nothing passes between this one and another.
    pub(super) fn is_cut_between(&self, other: &Self) -> bool {
        let cuts = |one: &Self, other: &Self| {
            let conditions = &one.state().conditions;
            conditions.cut || conditions.apart.contains(&other.network)
        };
        cuts(self, other) || cuts(other, self)
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) -> &Self {
        let mut state = self.state();
        change(&mut state.conditions);
        assert!(state.conditions.mtu <= USUAL_MTU, "the devices carry no longer packets");
        drop(state);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Conditions are plain values: whoever panicked, they are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What works off what comes: a relay behind its gate, and etcd.

use super::{Limited, Machine, dialer::Claim};
use converge_relay::limits::{BURST_SECONDS, Limits, RETRIES_PER_SECOND};
use governor::{
    Quota, RateLimiter,
    clock::FakeRelativeClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

type Limiter =
    RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<governor::nanos::Nanos>>;

/// What a relay does with a connection that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Retry,
    Refuse,
    Ignore,
}

/// A relay: its gate, and its processor, which works off one thing after the other.
///
/// The gate decides as `relay/src/limits/gate.rs` does, with the relay's own limits and the same library for rates. Limits per
/// address are left out: every dialer has an address of its own.
#[derive(Debug)]
pub(super) struct Relay {
    limits: Option<Limits>,
    /// Of the gate: `rates`, `unproven`, `retries`.
    rates: Limiter,
    unproven: Limiter,
    retries: Limiter,
    handshakes: u32,
    cores: Vec<Duration>,
    queue: u32,
    /// What is asked of etcd now, and what waits for its turn.
    pub(super) claims: usize,
    pub(super) waiting: VecDeque<Claim>,
    pub(super) most_queued: u32,
    pub(super) longest_wait: Duration,
    /// Connections that began, in the second that goes on and in the worst one.
    pub(super) begun: PerSecond,
}

impl Relay {
    pub(super) fn new(limited: Limited, machine: &Machine, clock: &FakeRelativeClock) -> Self {
        let limits = Limits::default();
        let new = |quota| RateLimiter::direct_with_clock(quota, clock.clone());
        let rate = NonZeroU32::new(limits.handshake_rate).unwrap_or(NonZeroU32::MAX);
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            limits: (limited == Limited::Yes).then_some(limits),
            rates: new(quota),
            unproven: new(quota),
            retries: new(Quota::per_second(RETRIES_PER_SECOND)),
            handshakes: 0,
            cores: vec![Duration::ZERO; machine.cores],
            queue: 0,
            claims: 0,
            waiting: VecDeque::new(),
            most_queued: 0,
            longest_wait: Duration::ZERO,
            begun: PerSecond::default(),
        }
    }

    /// The first packet of a QUIC connection. One that is accepted counts until [`shaken`](Self::shaken).
    pub(super) fn quic(&mut self, proven: bool) -> Verdict {
        if let Some(limits) = &self.limits {
            let is_crowded = self.handshakes >= limits.retry_above;
            if !proven && (is_crowded || self.unproven.check().is_err()) {
                return if self.retries.check().is_ok() { Verdict::Retry } else { Verdict::Ignore };
            }
            if proven && self.rates.check().is_err() {
                return Verdict::Refuse;
            }
            if self.handshakes >= limits.handshakes {
                return Verdict::Refuse;
            }
        }
        self.handshakes += 1;
        Verdict::Accept
    }

    /// A QUIC handshake is over.
    pub(super) fn shaken(&mut self) {
        self.handshakes -= 1;
    }

    /// A TCP connection.
    pub(super) fn tcp(&self) -> Verdict {
        let is_too_often = self.limits.is_some() && self.rates.check().is_err();
        if is_too_often { Verdict::Refuse } else { Verdict::Accept }
    }

    /// When this much work is done that comes now, behind all that came before. It counts as waiting until
    /// [`done`](Self::done).
    pub(super) fn work(&mut self, cost: Duration, now: Duration) -> Duration {
        self.queue += 1;
        self.most_queued = self.most_queued.max(self.queue);
        let done = self.busy(cost, now);
        self.longest_wait = self.longest_wait.max(done.saturating_sub(now));
        done
    }

    /// Work that nobody waits for, which keeps others waiting all the same.
    pub(super) fn busy(&mut self, cost: Duration, now: Duration) -> Duration {
        let core = self.cores.iter_mut().min().expect("a relay has a core");
        *core = (*core).max(now) + cost;
        *core
    }

    pub(super) fn done(&mut self) {
        self.queue -= 1;
    }
}

/// etcd: it writes one thing after the other. It goes on with what nobody waits for any more.
#[derive(Debug)]
pub(super) struct Etcd {
    each: Duration,
    free: Duration,
    queue: u32,
    pub(super) most_queued: u32,
    pub(super) writes: PerSecond,
}

impl Etcd {
    /// Beyond that it refuses, with "too many requests". etcd's own limit of 5000 is for what was decided and not yet applied; what
    /// waits for its disk before that is bounded by memory only.
    const MOST: u32 = 1_000_000;

    pub(super) fn new(writes_per_second: u32) -> Self {
        let each = Duration::from_secs(1) / writes_per_second;
        Self { each, free: Duration::ZERO, queue: 0, most_queued: 0, writes: PerSecond::default() }
    }

    /// When a transaction that comes now is done; nothing when it is refused.
    pub(super) fn write(&mut self, now: Duration) -> Option<Duration> {
        if self.queue >= Self::MOST {
            return None;
        }
        self.queue += 1;
        self.most_queued = self.most_queued.max(self.queue);
        self.free = self.free.max(now) + self.each;
        Some(self.free)
    }

    pub(super) fn done(&mut self, now: Duration) {
        self.queue -= 1;
        self.writes.count(now);
    }
}

/// How many in all, and in the worst second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerSecond {
    pub(super) all: u64,
    pub(super) most: u32,
    second: u64,
    count: u32,
}

impl PerSecond {
    pub(super) fn count(&mut self, now: Duration) {
        if now.as_secs() != self.second {
            (self.second, self.count) = (now.as_secs(), 0);
        }
        self.count += 1;
        self.all += 1;
        self.most = self.most.max(self.count);
    }
}

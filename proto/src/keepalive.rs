//! When to ask a silent peer whether it is still there, and when to stop believing in it.

use std::time::{Duration, Instant};

/// Decides when a [`Ping`](crate::rendezvous::Ping) is due and when the peer counts as lost.
///
/// Call [`handle_received`](Self::handle_received) for every frame that arrives; sleep until
/// [`poll_timeout`](Self::poll_timeout), then call [`handle_timeout`](Self::handle_timeout) and do what it says.
#[derive(Debug, Clone)]
pub struct Keepalive {
    interval: Duration,
    last_received: Instant,
    next_ping: Instant,
    pings_sent: u64,
}

/// What to do after a time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Send a `Ping` with this token.
    SendPing(u64),
    /// Nothing has arrived for [`Keepalive::LOST_AFTER_INTERVALS`] intervals: give the link up.
    Lost,
    /// Too early; nothing to do.
    Wait,
}

impl Keepalive {
    /// How many intervals of silence end a link.
    pub const LOST_AFTER_INTERVALS: u32 = 3;
    /// Shorter intervals are not used whatever the peer asks for, so that it cannot make us flood it.
    pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
    /// Longer ones are not used either, or a dead peer would be noticed too late.
    pub const MAX_INTERVAL: Duration = Duration::from_mins(5);

    /// Starts now, with an interval cut to the limits above.
    pub fn new(interval: Duration, now: Instant) -> Self {
        let interval = interval.clamp(Self::MIN_INTERVAL, Self::MAX_INTERVAL);
        Self { interval, last_received: now, next_ping: now + interval, pings_sent: 0 }
    }

    /// Anything from the peer proves that it is there, so it need not be asked for another interval.
    pub fn handle_received(&mut self, now: Instant) {
        self.last_received = self.last_received.max(now);
        self.next_ping = self.next_ping.max(self.last_received + self.interval);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.next_ping.min(self.lost_at())
    }

    /// Call at or after [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) -> KeepaliveAction {
        if now >= self.lost_at() {
            return KeepaliveAction::Lost;
        }
        if now < self.next_ping {
            return KeepaliveAction::Wait;
        }
        self.next_ping = now + self.interval;
        self.pings_sent += 1;
        KeepaliveAction::SendPing(self.pings_sent)
    }

    fn lost_at(&self) -> Instant {
        self.last_received + self.interval * Self::LOST_AFTER_INTERVALS
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn pings_every_interval_and_gives_up_after_three_of_silence() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, start);
        assert_eq!(keepalive.poll_timeout(), start + INTERVAL);
        assert_eq!(keepalive.handle_timeout(start), KeepaliveAction::Wait);
        assert_eq!(keepalive.handle_timeout(start + INTERVAL), KeepaliveAction::SendPing(1));
        assert_eq!(keepalive.handle_timeout(start + INTERVAL * 2), KeepaliveAction::SendPing(2));
        assert_eq!(keepalive.poll_timeout(), start + INTERVAL * 3);
        assert_eq!(keepalive.handle_timeout(start + INTERVAL * 3), KeepaliveAction::Lost);
    }

    #[test]
    fn anything_received_moves_the_end() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, start);
        for tick in 1..20 {
            let now = start + INTERVAL * tick;
            assert_eq!(keepalive.handle_timeout(now), KeepaliveAction::SendPing(u64::from(tick)));
            keepalive.handle_received(now);
        }
    }

    #[test]
    fn side_with_the_longer_interval_never_asks() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL * 3 / 2, start);
        for ping_of_the_peer in 1..20 {
            let now = start + INTERVAL * ping_of_the_peer;
            assert!(keepalive.poll_timeout() > now);
            keepalive.handle_received(now);
        }
    }

    #[test]
    fn peer_cannot_ask_for_a_flood_or_for_silence() {
        let start = Instant::now();
        assert_eq!(Keepalive::new(Duration::ZERO, start).poll_timeout(), start + Keepalive::MIN_INTERVAL);
        assert_eq!(Keepalive::new(Duration::MAX, start).poll_timeout(), start + Keepalive::MAX_INTERVAL);
    }

    #[test]
    fn late_timer_after_a_suspended_machine_asks_before_it_gives_up_only_within_the_limit() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL, start);
        assert_eq!(keepalive.handle_timeout(start + INTERVAL * 2), KeepaliveAction::SendPing(1));
        assert_eq!(keepalive.handle_timeout(start + Duration::from_hours(8)), KeepaliveAction::Lost);
    }
}

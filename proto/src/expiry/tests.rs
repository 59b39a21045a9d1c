#![allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn limits() -> ExpiryLimits {
    ExpiryLimits {
        first: Some(30 * MINUTE),
        idle: Some(10 * MINUTE),
        lifetime: Some(360 * MINUTE),
        warn: vec![5 * MINUTE, MINUTE],
    }
}

/// A test's own clock.
struct Time {
    expiry: Expiry,
    begun: Instant,
    now: Instant,
}

impl Time {
    fn new(limits: ExpiryLimits) -> Self {
        let now = Instant::now();
        Self { expiry: Expiry::new(limits, now), begun: now, now }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Sleeps until there is something to do; returns the time since the beginning and what it is.
    fn next(&mut self) -> (Duration, ExpiryAction) {
        loop {
            match self.expiry.handle_timeout(self.now) {
                ExpiryAction::Wait => {}
                action => return (self.now - self.begun, action),
            }
            self.now = self.now.max(self.expiry.poll_timeout().expect("a clock runs"));
        }
    }

    fn warns(&mut self, at: Duration, clock: Clock, remaining: Duration) {
        assert_eq!(self.next(), (at, ExpiryAction::Warn { clock, remaining }));
    }

    fn ends(&mut self, at: Duration, clock: Clock) {
        assert_eq!(self.next(), (at, ExpiryAction::End(Expired::Clock(clock))));
    }
}

#[test]
fn nobody_comes() {
    let mut time = Time::new(limits());
    time.warns(25 * MINUTE, Clock::First, 5 * MINUTE);
    time.warns(29 * MINUTE, Clock::First, MINUTE);
    time.ends(30 * MINUTE, Clock::First);
}

#[test]
fn users_do_nothing_and_then_something() {
    let mut time = Time::new(limits());
    time.pass(20 * MINUTE);
    time.expiry.handle_login(time.now);
    time.warns(25 * MINUTE, Clock::Idle, 5 * MINUTE);
    assert!(time.expiry.is_warned());
    time.pass(MINUTE);
    time.expiry.handle_activity(time.now);
    assert_eq!(time.expiry.handle_timeout(time.now), ExpiryAction::Relieve(Clock::Idle));
    assert!(!time.expiry.is_warned());
    time.warns(31 * MINUTE, Clock::Idle, 5 * MINUTE);
    time.warns(35 * MINUTE, Clock::Idle, MINUTE);
    time.ends(36 * MINUTE, Clock::Idle);
}

#[test]
fn the_hard_cap_does_not_care() {
    let mut time = Time::new(limits());
    time.expiry.handle_login(time.now);
    for _ in 0..71 {
        time.pass(4 * MINUTE + 59 * SECOND);
        time.expiry.handle_activity(time.now);
        assert_eq!(time.expiry.handle_timeout(time.now), ExpiryAction::Wait);
    }
    time.expiry.extend(time.now, time.now + 100 * MINUTE);
    time.warns(355 * MINUTE, Clock::Lifetime, 5 * MINUTE);
    time.expiry.handle_activity(time.now);
    time.warns(359 * MINUTE, Clock::Lifetime, MINUTE);
    time.ends(360 * MINUTE, Clock::Lifetime);
}

#[test]
fn last_one_out_ends_it_unless_it_is_held() {
    let mut time = Time::new(limits());
    time.expiry.handle_login(time.now);
    time.expiry.handle_login(time.now);
    time.pass(MINUTE);
    time.expiry.handle_logout(time.now);
    assert_eq!(time.expiry.handle_timeout(time.now), ExpiryAction::Wait);
    time.expiry.handle_hold(Some(time.now));
    time.pass(MINUTE);
    time.expiry.handle_logout(time.now);
    assert_eq!(time.expiry.handle_timeout(time.now), ExpiryAction::Wait);
    time.pass(MINUTE);
    time.expiry.handle_hold(None);
    assert_eq!(time.next(), (3 * MINUTE, ExpiryAction::End(Expired::LastLogout)));
}

#[test]
fn a_hold_in_the_future_stretches_both_clocks() {
    let mut time = Time::new(limits());
    time.expiry.handle_hold(Some(time.now + 60 * MINUTE));
    time.warns(85 * MINUTE, Clock::First, 5 * MINUTE);
    time.expiry.handle_login(time.now);
    assert_eq!(time.next(), (85 * MINUTE, ExpiryAction::Relieve(Clock::First)));
    time.expiry.handle_hold(Some(time.now + 60 * MINUTE));
    time.warns(150 * MINUTE, Clock::Idle, 5 * MINUTE);
    // Taken back, it is as if it had never been.
    time.expiry.handle_hold(None);
    time.ends(150 * MINUTE, Clock::Idle);
}

#[test]
fn more_time_is_given_and_never_taken() {
    let mut time = Time::new(limits());
    time.expiry.handle_login(time.now);
    time.warns(5 * MINUTE, Clock::Idle, 5 * MINUTE);
    time.expiry.extend(time.now, time.now + 60 * MINUTE);
    time.expiry.extend(time.now, time.now + MINUTE);
    assert_eq!(time.next(), (5 * MINUTE, ExpiryAction::Relieve(Clock::Idle)));
    time.warns(60 * MINUTE, Clock::Idle, 5 * MINUTE);
    time.warns(64 * MINUTE, Clock::Idle, MINUTE);
    time.ends(65 * MINUTE, Clock::Idle);
}

#[test]
fn a_warning_as_long_as_its_clock_is_not_given() {
    let mut time = Time::new(ExpiryLimits { first: Some(5 * MINUTE), ..limits() });
    time.warns(4 * MINUTE, Clock::First, MINUTE);
    time.ends(5 * MINUTE, Clock::First);
}

#[test]
fn who_sleeps_too_long_gives_only_the_last_warning() {
    let mut time = Time::new(limits());
    time.pass(29 * MINUTE + 30 * SECOND);
    time.warns(29 * MINUTE + 30 * SECOND, Clock::First, 30 * SECOND);
    time.ends(30 * MINUTE, Clock::First);
}

#[test]
fn without_clocks_only_the_last_logout_ends_it() {
    let mut time = Time::new(ExpiryLimits { first: None, idle: None, lifetime: None, warn: Vec::new() });
    assert_eq!(time.expiry.poll_timeout(), None);
    assert_eq!(time.expiry.handle_timeout(time.now), ExpiryAction::Wait);
    time.expiry.handle_login(time.now);
    assert_eq!(time.expiry.poll_timeout(), None);
    time.expiry.handle_logout(time.now);
    assert_eq!(time.next().1, ExpiryAction::End(Expired::LastLogout));
}

proptest! {
    /// Whatever happens, asking until it says to wait comes to an end, the next time-out is then in the future, nobody
    /// is thrown out before the nearest clock, and a clock's end was announced if there was time for it.
    #[test]
    fn it_never_spins_and_never_ends_early(
        warn in prop::collection::vec(1_u64..20, 0..4),
        first in prop::option::of(1_u64..40),
        idle in prop::option::of(1_u64..40),
        lifetime in prop::option::of(1_u64..100),
        happenings in prop::collection::vec((0_u8..7, 0_u64..30), 0..60),
    ) {
        let of = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let warn = warn.into_iter().map(Duration::from_secs).collect();
        let limits = ExpiryLimits { first: of(first), idle: of(idle), lifetime: of(lifetime), warn };
        let mut time = Time::new(limits.clone());
        for (what, seconds) in happenings {
            let amount = Duration::from_secs(seconds);
            match what {
                0 => time.expiry.handle_login(time.now),
                1 => time.expiry.handle_logout(time.now),
                2 => time.expiry.handle_activity(time.now),
                3 => time.expiry.handle_hold(Some(time.now + amount)),
                4 => time.expiry.handle_hold(None),
                5 => time.expiry.extend(time.now, time.now + amount),
                _ => time.pass(amount),
            }
            let mut asked = 0;
            loop {
                asked += 1;
                prop_assert!(asked <= 3, "it goes on and on");
                match time.expiry.handle_timeout(time.now) {
                    ExpiryAction::Wait => break,
                    ExpiryAction::Warn { clock, remaining } => {
                        let deadline = time.expiry.deadline().expect("a clock was named");
                        prop_assert_eq!((deadline.clock, deadline.at), (clock, time.now + remaining));
                        prop_assert!(limits.warn.iter().any(|before| remaining <= *before));
                    }
                    ExpiryAction::Relieve(_) => {}
                    ExpiryAction::End(Expired::LastLogout) => {
                        prop_assert!(!time.expiry.is_held());
                        return Ok(());
                    }
                    ExpiryAction::End(Expired::Clock(clock)) => {
                        let deadline = time.expiry.deadline().expect("a clock was named");
                        prop_assert_eq!(deadline.clock, clock);
                        prop_assert!(deadline.at <= time.now);
                        return Ok(());
                    }
                }
            }
            if let Some(next) = time.expiry.poll_timeout() {
                prop_assert!(next > time.now, "the next time-out is in the past");
            }
        }
    }
}

//! How wrong keys are slowed down.
//!
//! Keys cannot be guessed, so this protects nobody's key. It keeps a program that tries one key after the other, or one
//! connection after the other, from costing the job much: signatures to verify, files to read, lines to log. Nobody is
//! ever turned away for what others did, and who has the right key waits a few seconds at worst.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// So many wrong keys of a connection are answered at once: with two or three keys in an ssh-agent, the right one is
/// often not the first.
const FREE_REFUSALS: u32 = 2;
/// The first delay; it doubles with every wrong key. With the six that [`super::MAX_LOGIN_ATTEMPTS`] allows, the last
/// answer comes after 0.1 + 0.2 + 0.4 + 0.8 s.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No single answer of a connection is delayed for longer.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// So many connections that end without a login, within [`WINDOW`], are ordinary: people with the wrong key in a loop.
const FREE_FAILURES: usize = 20;
/// How long a failed connection counts.
const WINDOW: Duration = Duration::from_mins(1);
/// For each one more, every new connection's first answer waits this much longer …
const DELAY_PER_FAILURE: Duration = Duration::from_millis(100);
/// … up to this many of them: 5 s, well below the [`super::LOGIN_GRACE_TIME`].
const MAX_DELAYS: usize = 50;

/// How long the next answer of a connection waits that has had so many refusals.
pub(super) fn delay_after(refusals: u32) -> Duration {
    match refusals.checked_sub(FREE_REFUSALS) {
        None => Duration::ZERO,
        Some(more) => FIRST_DELAY.saturating_mul(1 << more.min(16)).min(LONGEST_DELAY),
    }
}

/// The connections of an agent that have lately ended without a login, after at least one refusal.
#[derive(Debug, Default)]
pub(super) struct RecentFailures {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When they ended, the oldest first; at most `FREE_FAILURES + MAX_DELAYS`, beyond which more make no difference.
    ended: VecDeque<Instant>,
    /// The burst that is going on has been logged.
    is_told: bool,
}

impl RecentFailures {
    /// One more, now.
    pub(super) fn note(&self) {
        if self.count_one_more() {
            warn!(
                connections = FREE_FAILURES,
                seconds = WINDOW.as_secs(),
                "many connections without a right key; logins are slowed down by up to {} s until that ends",
                (DELAY_PER_FAILURE * u32::try_from(MAX_DELAYS).unwrap_or(u32::MAX)).as_secs(),
            );
        }
    }

    /// `true` when a burst begins.
    fn count_one_more(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget();
        if state.ended.len() >= FREE_FAILURES + MAX_DELAYS {
            state.ended.pop_front();
        }
        state.ended.push_back(Instant::now());
        let begins = state.ended.len() >= FREE_FAILURES && !state.is_told;
        state.is_told |= begins;
        begins
    }

    /// How long the first answer of a connection waits that comes now.
    pub(super) fn delay(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget();
        let more = state.ended.len().saturating_sub(FREE_FAILURES);
        DELAY_PER_FAILURE.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX))
    }
}

impl State {
    fn forget(&mut self) {
        while self.ended.front().is_some_and(|ended| ended.elapsed() >= WINDOW) {
            self.ended.pop_front();
        }
        // Not at the first dip below the limit: a burst that goes up and down around it is one.
        if self.ended.len() < FREE_FAILURES / 2 {
            self.is_told = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::{LOGIN_GRACE_TIME, MAX_LOGIN_ATTEMPTS};

    #[test]
    fn delays_of_a_connection_grow_and_leave_time_to_log_in() {
        let delays: Vec<_> = (0..7).map(|refusals| delay_after(refusals).as_millis()).collect();
        assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1000]);
        assert_eq!(delay_after(u32::MAX), LONGEST_DELAY);
        let attempts = u32::try_from(MAX_LOGIN_ATTEMPTS).unwrap();
        let all: Duration = (0..attempts).map(delay_after).sum();
        let worst = all + DELAY_PER_FAILURE * u32::try_from(MAX_DELAYS).unwrap();
        assert!(worst < LOGIN_GRACE_TIME / 2, "{worst:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_slow_everybody_down_a_little_and_are_told_once() {
        let failures = RecentFailures::default();
        let told = (0..FREE_FAILURES).filter(|_| failures.count_one_more()).count();
        assert_eq!((told, failures.delay()), (1, Duration::ZERO));
        assert!(!failures.count_one_more());
        assert_eq!(failures.delay(), DELAY_PER_FAILURE);
        for _ in 0..10_000 {
            assert!(!failures.count_one_more());
        }
        assert_eq!(failures.delay(), Duration::from_secs(5));
        assert_eq!(failures.state.lock().unwrap().ended.len(), FREE_FAILURES + MAX_DELAYS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_ends_with_its_minute_and_the_next_one_is_told_again() {
        let failures = RecentFailures::default();
        for _ in 0..=FREE_FAILURES {
            failures.count_one_more();
        }
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(failures.delay(), DELAY_PER_FAILURE);
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(failures.delay(), Duration::ZERO);
        assert_eq!((0..FREE_FAILURES).filter(|_| failures.count_one_more()).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_goes_up_and_down_is_told_once() {
        let failures = RecentFailures::default();
        let mut told = 0;
        // One every 2.9 s: some twenty within a minute, now one more and now one less.
        for number in 0..200 {
            tokio::time::advance(Duration::from_millis(if number % 40 < 20 { 2_800 } else { 3_200 })).await;
            told += usize::from(failures.count_one_more());
        }
        assert_eq!(told, 1);
    }
}

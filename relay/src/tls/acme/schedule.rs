//! When to order, and when to try again.

use converge_certs::Facts;
use std::time::{Duration, SystemTime};

/// After the first failure. Let's Encrypt takes five failed proofs an hour for a name; doubling from here stays below.
const FIRST_PAUSE: Duration = Duration::from_mins(5);
/// With a third of its life left, a certificate of 90 days has sixty tries at this distance.
const LONGEST_PAUSE: Duration = Duration::from_hours(12);

/// The clockwork of renewal. Many relays were started at the same time, or lost the same server: no two of them come back
/// at once.
#[derive(Debug)]
pub(super) struct Schedule {
    failures: u32,
    /// From 0 to 1, another one for each certificate.
    luck: f64,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self { failures: 0, luck: rand::random() }
    }

    /// When two thirds of a certificate's life are over, or up to a thirtieth of it earlier.
    pub(super) fn renewal(&self, facts: &Facts) -> SystemTime {
        let lifetime = facts.lifetime();
        facts.not_before + lifetime * 2 / 3 - (lifetime / 30).mul_f64(self.luck)
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// How long to wait after another failure: twice as long as before, give or take a quarter.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let (not_before, day) = (SystemTime::UNIX_EPOCH, Duration::from_hours(24));
        let facts = Facts { names: vec![], not_before, not_after: not_before + day * 90, self_signed: false };
        let at = |luck| Schedule { failures: 0, luck }.renewal(&facts);
        assert_eq!(at(0.0), not_before + day * 60);
        assert_eq!(at(1.0), not_before + day * 57);
    }

    #[test]
    fn pauses_double_up_to_half_a_day() {
        let mut schedule = Schedule::new();
        let pauses: Vec<_> = (0..40).map(|_| schedule.failed()).collect();
        let mut middle = FIRST_PAUSE;
        for pause in &pauses {
            assert!(middle.mul_f64(0.74) < *pause && *pause < middle.mul_f64(1.26), "{pauses:?}");
            middle = (middle * 2).min(LONGEST_PAUSE);
        }
        // Five in the first hour would be too many even if each were as short as it can be.
        assert!(pauses.iter().take(4).sum::<Duration>() > Duration::from_mins(50));
        schedule.succeeded();
        assert!(schedule.failed() < FIRST_PAUSE * 2);
    }
}

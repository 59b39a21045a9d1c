//! How long to wait before dialing again.

use std::time::Duration;

/// Doubles from 50 ms to 5 s, each wait jittered between half of itself and itself, so that a thousand agents that
/// lost the same relay do not come back in the same instant.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    /// The longest wait.
    pub const LONGEST: Duration = Duration::from_secs(5);

    /// Starts with the shortest wait.
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The next wait. `random` is uniform in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(Self::LONGEST);
        wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_stay_there() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        for (random, expected) in [(0.0, 25), (0.5, 37), (1.0, 50), (9.0, 50)] {
            assert_eq!(Backoff::new().next(random).as_millis(), expected);
        }
    }
}

//! Which relay a dialer tries first.

use converge_transport::dial::AWAY_FOR;
use rand::{Rng, seq::SliceRandom};
use std::time::Duration;

/// What one dialer knows of its relays: that the last one worked, and which have failed since.
///
/// The rule of agents and clients with several relays: the one that worked last, then the others in an order of chance, then
/// those that have failed within half a minute, the longest ago first.
#[derive(Debug)]
pub(super) struct Known {
    relays: Vec<u16>,
    best: Option<u16>,
    /// The oldest first.
    away: Vec<(u16, Duration)>,
}

impl Known {
    /// Was at the first of these relays until now.
    pub(super) fn new(relays: Vec<u16>) -> Self {
        let best = relays.first().copied();
        Self { relays, best, away: Vec::new() }
    }

    pub(super) fn failed(&mut self, relay: u16, now: Duration) {
        self.best.take_if(|best| *best == relay);
        self.away.retain(|(known, since)| *known != relay && now.saturating_sub(*since) < AWAY_FOR);
        self.away.push((relay, now));
    }

    pub(super) fn order(&self, now: Duration, random: &mut impl Rng) -> Vec<u16> {
        let mut order = self.relays.clone();
        order.shuffle(random);
        let since = |relay| self.away.iter().find(|(known, _)| *known == relay).map(|(_, since)| *since);
        order.sort_by_key(|relay| {
            match since(*relay).filter(|since| now.saturating_sub(*since) < AWAY_FOR) {
                Some(since) => (2, since),
                None => (u8::from(self.best != Some(*relay)), Duration::ZERO),
            }
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn best_is_first_and_failed_ones_are_last_for_half_a_minute() {
        let (mut known, mut random) = (Known::new((0..8).collect()), StdRng::seed_from_u64(1));
        let second = Duration::from_secs;
        assert_eq!(known.order(second(0), &mut random)[0], 0);
        known.failed(0, second(1));
        known.failed(5, second(2));
        for _ in 0..50 {
            assert_eq!(known.order(second(3), &mut random)[6..], [0, 5]);
        }
        let firsts = (0..200).map(|_| known.order(second(32), &mut random)[0]);
        assert_eq!(firsts.collect::<std::collections::BTreeSet<_>>().len(), 8, "all is forgotten by then");
    }
}

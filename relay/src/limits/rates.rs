//! How often, in all and by each peer.

use super::network::Network;
use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// Peers whose rates are known one by one. Further ones, until some of these have been quiet, share one rate: that many
/// peers at once are a flood, and memory is worth more then.
const MAX_KEYS: usize = 65_536;
/// How often those that have been quiet are looked for, at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What may come at once after a quiet time, as a multiple of what may come in a second.
pub const BURST_SECONDS: u32 = 4;

/// Why it is too often, and how long until it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooOften {
    InAll(Duration),
    OfAddress(Duration),
}

/// How often something may happen, in all and of each peer; 0: as often as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerSecond {
    pub(crate) all: u32,
    pub(crate) each: u32,
}

/// Limits on how often something happens. How often it may, whoever asks says, as it may change at any time; what has happened
/// is then forgotten.
#[derive(Debug)]
pub(crate) struct Rates(RwLock<Arc<Limiters>>);

impl Default for Rates {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Limiters::new(PerSecond::default()))))
    }
}

impl Rates {
    /// Counts one of this peer's, if it is not too often. What one peer is refused is not counted in all.
    pub(crate) fn check(&self, address: IpAddr, most: PerSecond) -> Result<(), TooOften> {
        self.limiters(most).check(address)
    }

    fn limiters(&self, most: PerSecond) -> Arc<Limiters> {
        let limiters = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if limiters.most == most {
            return limiters;
        }
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        if current.most != most {
            *current = Arc::new(Limiters::new(most));
        }
        current.clone()
    }
}

#[derive(Debug)]
struct Limiters {
    most: PerSecond,
    in_all: Option<DefaultDirectRateLimiter>,
    each: Option<DefaultKeyedRateLimiter<Option<Network>>>,
    swept: Mutex<Instant>,
}

impl Limiters {
    fn new(most: PerSecond) -> Self {
        Self {
            most,
            in_all: quota(most.all).map(RateLimiter::direct),
            each: quota(most.each).map(RateLimiter::keyed),
            swept: Mutex::new(Instant::now()),
        }
    }

    fn check(&self, address: IpAddr) -> Result<(), TooOften> {
        if let Some(each) = &self.each {
            let key = self.has_room(each).then(|| Network::from(address));
            each.check_key(&key)
                .map_err(|until| TooOften::OfAddress(until.wait_time_from(DefaultClock::default().now())))?;
        }
        if let Some(in_all) = &self.in_all {
            in_all
                .check()
                .map_err(|until| TooOften::InAll(until.wait_time_from(DefaultClock::default().now())))?;
        }
        Ok(())
    }

    fn has_room(&self, each: &DefaultKeyedRateLimiter<Option<Network>>) -> bool {
        if each.len() < MAX_KEYS {
            return true;
        }
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() >= SWEEP_INTERVAL {
            *swept = Instant::now();
            drop(swept);
            each.retain_recent();
            each.shrink_to_fit();
        }
        each.len() < MAX_KEYS
    }
}

fn quota(per_second: u32) -> Option<Quota> {
    let per_second = NonZeroU32::new(per_second)?;
    Some(
        Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::new(BURST_SECONDS)?)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn per_second(all: u32, each: u32) -> PerSecond {
        PerSecond { all, each }
    }

    #[test]
    fn one_peer_that_comes_too_often_takes_nothing_from_others() {
        let (rates, most) = (Rates::default(), per_second(3, 1));
        let noisy = IpAddr::from([192, 0, 2, 1]);
        let refused = (0..100).filter(|_| rates.check(noisy, most).is_err()).count();
        assert!(refused >= 90, "{refused}");
        assert!(matches!(rates.check(noisy, most), Err(TooOften::OfAddress(wait)) if !wait.is_zero()));
        assert_eq!(rates.check(IpAddr::from([192, 0, 2, 2]), most), Ok(()));
    }

    #[test]
    fn all_together_may_not_come_too_often_either() {
        let rates = Rates::default();
        let refused =
            (0..100).filter_map(|last| rates.check(IpAddr::from([192, 0, 2, last]), per_second(1, 0)).err());
        assert!(matches!(refused.last(), Some(TooOften::InAll(_))));
        assert_eq!(rates.check(IpAddr::from([192, 0, 2, 1]), per_second(0, 0)), Ok(()));
    }

    #[test]
    fn other_rates_hold_from_the_next_peer_on() {
        let (rates, peer) = (Rates::default(), IpAddr::from([192, 0, 2, 1]));
        let refused = |most| (0..50).filter(|_| rates.check(peer, most).is_err()).count();
        assert_eq!(refused(per_second(0, 0)), 0);
        assert!(refused(per_second(0, 1)) >= 40);
        assert_eq!(refused(per_second(0, 1000)), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let limiters = Limiters::new(per_second(0, 1));
        let peers = u32::try_from(MAX_KEYS).unwrap() + 1000;
        for number in 0..peers {
            let _ = limiters.check(IpAddr::from(number.to_be_bytes()));
        }
        assert!(limiters.each.as_ref().unwrap().len() <= MAX_KEYS + 1);
    }
}

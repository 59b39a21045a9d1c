//! Wrong tokens are answered late when many come from one network.
//!
//! Nobody guesses 256 random bits; this is against the load and the log lines of those who try. Right tokens are never
//! slowed, so a neighbour behind the same address cannot lock anybody out.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};
use tokio::sync::Semaphore;

/// Wrong tokens that a network may send at once, and how many more in a minute, before it has to wait: typing errors
/// and a batch of jobs with yesterday's token.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// The longest that an answer is kept back: below what peers wait for an answer.
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// Answers that are kept back at the same time; more are given at once, because each holds its connection.
const MAX_DELAYED: usize = 256;
/// Networks that are remembered; when there are more, those that have been good for a while are forgotten, and
/// whoever is new shares one place with all others that are.
const MAX_NETWORKS: usize = 16_384;

/// Counts wrong tokens by network.
#[derive(Debug)]
pub(super) struct SlowDown {
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    delayed: Semaphore,
}

impl Default for SlowDown {
    fn default() -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        Self { limiter: RateLimiter::hashmap(quota), delayed: Semaphore::new(MAX_DELAYED) }
    }
}

impl SlowDown {
    /// A wrong token has come: returns when it may be answered. Cancel-safe.
    pub(super) async fn wrong_token(&self, peer: IpAddr) {
        let Some(delay) = self.delay(peer) else { return };
        if let Ok(_permit) = self.delayed.try_acquire() {
            tokio::time::sleep(delay).await;
        }
    }

    fn delay(&self, peer: IpAddr) -> Option<Duration> {
        if self.limiter.len() >= MAX_NETWORKS {
            self.limiter.retain_recent();
        }
        let is_full = self.limiter.len() >= MAX_NETWORKS;
        let key = if is_full { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { network(peer) };
        let not_yet = self.limiter.check_key(&key).err()?;
        Some(not_yet.wait_time_from(self.limiter.clock().now()).min(LONGEST_DELAY))
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn many_wrong_tokens_of_one_network_are_answered_late_and_others_are_not() {
        let slow_down = SlowDown::default();
        for _ in 0..BURST.get() {
            assert_eq!(slow_down.delay(address("2001:db8::1")), None);
        }
        let delay = slow_down.delay(address("2001:db8::2")).unwrap();
        assert!(delay > Duration::from_millis(500) && delay <= LONGEST_DELAY, "{delay:?}");
        assert_eq!(slow_down.delay(address("2001:db8:0:1::1")), None);
        assert_eq!(slow_down.delay(address("10.0.0.1")), None);
    }

    #[test]
    fn networks_are_an_address_or_a_64() {
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
    }
}

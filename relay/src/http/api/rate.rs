//! How often one sender may ask.

use crate::{cluster::answer::FromRelay, http::Connection, limits};
use axum::{extract::Request, http::header};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The rate of each sender: a token, or where there is none, a network.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When each would have nothing left to wait for if it asked no more.
    senders: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Rate {
    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, when it is too early.
    pub(super) fn check(&self, request: &Request) -> Result<(), Duration> {
        // It was counted where it has come to the cluster.
        if request.extensions().get::<FromRelay>().is_some() {
            return Ok(());
        }
        let connection = request.extensions().get::<Connection>();
        let network = connection.map(|connection| network(connection.peer.address.ip())).unwrap_or_default();
        // A wrong token is a sender of its own only as long as it stays the same; guesses are slowed down elsewhere.
        let token = request.headers().get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
        let sender = Sha256::new().chain_update(network).chain_update(token).finalize();
        self.count(sender.into(), Instant::now())
    }

    fn count(&self, sender: [u8; 32], now: Instant) -> Result<(), Duration> {
        let (interval, burst) = (limits::API_INTERVAL, limits::API_INTERVAL * limits::API_BURST);
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= limits::MAX_API_SENDERS && !senders.contains_key(&sender) {
            senders.retain(|_, free_at| *free_at > now);
            if senders.len() >= limits::MAX_API_SENDERS {
                return Err(interval);
            }
        }
        let free_at = senders.entry(sender).or_insert(now);
        let next = (*free_at).max(now) + interval;
        let ahead = next.duration_since(now);
        if let Some(wait) = ahead.checked_sub(burst).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        *free_at = next;
        Ok(())
    }
}

/// What one sender has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> [u8; 8] {
    let mut network = [0; 8];
    match address {
        IpAddr::V4(address) => network[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => network.copy_from_slice(&address.octets()[..8]),
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (rate, now) = (Rate::default(), Instant::now());
        assert!((0..limits::API_BURST).all(|_| rate.count([1; 32], now).is_ok()));
        assert_eq!(rate.count([1; 32], now), Err(limits::API_INTERVAL));
        assert_eq!(rate.count([2; 32], now), Ok(()), "others are not held back");
        assert_eq!(rate.count([1; 32], now + limits::API_INTERVAL), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let (rate, now) = (Rate::default(), Instant::now());
        let sender = |number: usize| {
            let mut sender = [0; 32];
            sender[..8].copy_from_slice(&number.to_le_bytes());
            sender
        };
        assert!((0..limits::MAX_API_SENDERS).all(|number| rate.count(sender(number), now).is_ok()));
        assert!(rate.count([9; 32], now).is_err());
        assert_eq!(rate.count([9; 32], now + limits::API_INTERVAL * 2), Ok(()));
    }
}

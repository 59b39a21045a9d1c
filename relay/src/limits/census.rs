//! Counting what is here, in all and of each peer.

use super::network::Network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many there are. What it remembers is bounded by how many there may be.
#[derive(Debug)]
pub(crate) struct Census {
    max: u32,
    max_each: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    each: HashMap<Network, u32>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many as there may be.
    All,
    /// There are as many of this peer.
    Address,
}

impl Census {
    /// Room for `max`, and for `max_each` of one peer.
    pub(crate) fn new(max: u32, max_each: u32) -> Arc<Self> {
        Arc::new(Self { max, max_each, counts: Mutex::default() })
    }

    /// One more, until the returned value is dropped. Without an address it counts in all only.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Stay, Full> {
        let network = address.map(Network::from);
        let mut counts = self.counts();
        if counts.all >= self.max {
            return Err(Full::All);
        }
        if let Some(network) = network {
            let each = counts.each.entry(network).or_default();
            if *each >= self.max_each {
                return Err(Full::Address);
            }
            *each += 1;
        }
        counts.all += 1;
        drop(counts);
        Ok(Stay { census: self.clone(), network })
    }

    /// One more whether there is room or not: it takes the place of another that is about to leave.
    pub(crate) fn enter_anyway(self: &Arc<Self>, address: IpAddr) -> Stay {
        let network = Network::from(address);
        let mut counts = self.counts();
        counts.all += 1;
        *counts.each.entry(network).or_default() += 1;
        drop(counts);
        Stay { census: self.clone(), network: Some(network) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.counts().all as usize
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is counted, as long as this is held.
#[derive(Debug)]
pub(crate) struct Stay {
    census: Arc<Census>,
    network: Option<Network>,
}

impl Stay {
    /// Whether it is known to be this one's.
    pub(crate) fn is_of(&self, address: IpAddr) -> bool {
        self.network == Some(Network::from(address))
    }

    /// Whose it is has become known.
    pub(crate) fn of(&mut self, address: IpAddr) -> Result<(), Full> {
        let network = Network::from(address);
        let mut counts = self.census.counts();
        let each = counts.each.entry(network).or_default();
        if *each >= self.census.max_each {
            return Err(Full::Address);
        }
        *each += 1;
        drop(counts);
        if let Some(before) = self.network.replace(network) {
            leave(&mut self.census.counts(), before);
        }
        Ok(())
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut counts = self.census.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(network) = self.network {
            leave(&mut counts, network);
        }
    }
}

fn leave(counts: &mut Counts, network: Network) {
    if let Some(each) = counts.each.get_mut(&network) {
        *each = each.saturating_sub(1);
        if *each == 0 {
            counts.each.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps)] // What `enter` takes.
    const fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn one_peer_leaves_room_for_others() {
        let census = Census::new(3, 2);
        let first = census.enter(address(1)).unwrap();
        let _second = census.enter(address(1)).unwrap();
        assert_eq!(census.enter(address(1)).unwrap_err(), Full::Address);
        let _other = census.enter(address(2)).unwrap();
        assert_eq!(census.enter(address(3)).unwrap_err(), Full::All);
        drop(first);
        assert!(census.enter(address(1)).is_ok());
    }

    #[test]
    fn what_has_left_is_forgotten() {
        let census = Census::new(10, 1);
        let mut stay = census.enter(None).unwrap();
        stay.of(IpAddr::from([192, 0, 2, 1])).unwrap();
        assert_eq!(census.enter(address(1)).unwrap_err(), Full::Address);
        stay.of(IpAddr::from([192, 0, 2, 2])).unwrap();
        drop(census.enter(address(1)).unwrap());
        drop(stay);
        let counts = census.counts();
        assert_eq!((counts.all, counts.each.len()), (0, 0));
    }
}

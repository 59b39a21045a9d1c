//! Counting what is here, in all and of each peer.

use super::network::Network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many there are. What it remembers is bounded by how many there may be, which whoever enters says, as it may change at
/// any time. Those that are in stay in.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counts: Mutex<Counts>,
}

/// How many there may be, in all and of each peer; 0: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    pub(crate) all: u32,
    pub(crate) each: u32,
}

fn is_full(count: u32, most: u32) -> bool {
    most > 0 && count >= most
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

impl Counts {
    fn enter(&mut self, network: Network, most_each: u32) -> Result<(), Full> {
        let each = self.each.get(&network).copied().unwrap_or_default();
        if is_full(each, most_each) {
            return Err(Full::Address);
        }
        self.each.insert(network, each.saturating_add(1));
        Ok(())
    }
}

impl Census {
    /// One more, until the returned value is dropped. Without an address it counts in all only.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>, most: Most) -> Result<Stay, Full> {
        let network = address.map(Network::from);
        let mut counts = self.counts();
        if is_full(counts.all, most.all) {
            return Err(Full::All);
        }
        if let Some(network) = network {
            counts.enter(network, most.each)?;
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
    pub(crate) fn of(&mut self, address: IpAddr, most: Most) -> Result<(), Full> {
        let network = Network::from(address);
        self.census.counts().enter(network, most.each)?;
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
        let (census, most) = (Arc::new(Census::default()), Most { all: 3, each: 2 });
        let first = census.enter(address(1), most).unwrap();
        let _second = census.enter(address(1), most).unwrap();
        assert_eq!(census.enter(address(1), most).unwrap_err(), Full::Address);
        let _other = census.enter(address(2), most).unwrap();
        assert_eq!(census.enter(address(3), most).unwrap_err(), Full::All);
        drop(first);
        assert!(census.enter(address(1), most).is_ok());
    }

    #[test]
    fn what_has_left_is_forgotten() {
        let (census, most) = (Arc::new(Census::default()), Most { all: 10, each: 1 });
        let mut stay = census.enter(None, most).unwrap();
        stay.of(IpAddr::from([192, 0, 2, 1]), most).unwrap();
        assert_eq!(census.enter(address(1), most).unwrap_err(), Full::Address);
        stay.of(IpAddr::from([192, 0, 2, 2]), most).unwrap();
        drop(census.enter(address(1), most).unwrap());
        drop(stay);
        let counts = census.counts();
        assert_eq!((counts.all, counts.each.len()), (0, 0));
    }

    #[test]
    fn those_that_are_in_stay_when_there_may_be_fewer() {
        let (census, any) = (Arc::new(Census::default()), Most { all: 0, each: 0 });
        let mut stays: Vec<_> = (0..3).map(|_| census.enter(address(1), any).unwrap()).collect();
        let most = Most { all: 2, each: 0 };
        for _ in 0..2 {
            assert_eq!(census.enter(address(1), most).unwrap_err(), Full::All);
            stays.pop();
        }
        assert!(census.enter(address(1), most).is_ok());
        assert_eq!(census.enter(address(1), Most { all: 0, each: 1 }).unwrap_err(), Full::Address);
        assert_eq!(census.count(), 1);
    }
}

//! Addresses that stand for a peer at another relay.
//!
//! quinn knows a path by the peer's address alone. A peer whose packets come through another relay is on another path
//! than before, even when its address is the same: what is sent to it has to take the same way back. So quinn sees such
//! a packet come from an address that stands for relay and peer, validates that path as any other (RFC 9000 section
//! 8.2), and keeps a congestion window of its own for it.

use super::recent::Recent;
use converge_proto::RelayNumber;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// A /48 of unique local addresses (RFC 4193) with a random global ID, which no network has to have. The next 16 bits
/// are the relay's number, the last 64 a serial number.
const PREFIX: u128 = 0xfd6b_3f1e_9ac4 << PREFIX_SHIFT;
const PREFIX_SHIFT: u32 = 80;
const RELAY_SHIFT: u32 = 64;
/// Peers at other relays that are remembered at once. One that is forgotten gets another address with its next packet,
/// and its path is validated again: forged packets can cost it that much, and no more.
const MAX_PEERS: usize = 16 * 1024;

/// Where a peer is: at which relay its packets arrive, and from where.
pub(super) type Peer = (RelayNumber, SocketAddr);

/// Which address stands for whom.
pub(super) struct Synthetic {
    serials: Recent<Peer, u64>,
    /// The same the other way round.
    peers: HashMap<u64, Peer>,
    /// The serial number of the last address. None is used twice, so that what is sent late to one that is forgotten
    /// cannot go to somebody else.
    last: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self::with_capacity(MAX_PEERS)
    }
}

impl Synthetic {
    fn with_capacity(peers: usize) -> Self {
        Self { serials: Recent::new(peers), peers: HashMap::new(), last: 0 }
    }

    /// The address that stands for this peer. Its port is the peer's own.
    pub(super) fn address_of(&mut self, peer: Peer) -> SocketAddr {
        let serial = self.serials.get(&peer).unwrap_or_else(|| {
            self.last += 1;
            if let Some((_, forgotten)) = self.serials.insert(peer, self.last) {
                self.peers.remove(&forgotten);
            }
            self.peers.insert(self.last, peer);
            self.last
        });
        let (relay, from) = peer;
        let address = PREFIX | u128::from(relay.get()) << RELAY_SHIFT | u128::from(serial);
        (Ipv6Addr::from(address), from.port()).into()
    }

    /// For whom this address stands; `None` when that is forgotten.
    pub(super) fn peer_at(&mut self, address: SocketAddr) -> Option<Peer> {
        let IpAddr::V6(ip) = address.ip() else { return None };
        let serial = u64::try_from(u128::from(ip) & u128::from(u64::MAX)).ok()?;
        let peer = *self.peers.get(&serial)?;
        // Used: what is spoken to is not forgotten.
        self.serials.get(&peer);
        Some(peer)
    }
}

/// Whether this address stands for somebody else. Nobody real has it.
pub(super) fn is_synthetic(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V6(ip) => u128::from(ip) >> PREFIX_SHIFT == PREFIX >> PREFIX_SHIFT,
        IpAddr::V4(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(relay: u16, address: &str) -> Peer {
        (RelayNumber::new(relay).unwrap(), address.parse().unwrap())
    }

    #[test]
    fn every_peer_has_an_address_of_its_own_that_leads_back() {
        let mut synthetic = Synthetic::default();
        let peers = [
            peer(1, "192.0.2.1:5000"),
            peer(2, "192.0.2.1:5000"),
            peer(1, "192.0.2.1:5001"),
            peer(4095, "[2001:db8::1]:5000"),
        ];
        let addresses = peers.map(|peer| synthetic.address_of(peer));
        for (index, address) in addresses.into_iter().enumerate() {
            assert!(is_synthetic(address), "{address}");
            assert_eq!(synthetic.peer_at(address), Some(peers[index]));
            assert_eq!(synthetic.address_of(peers[index]), address, "the same again");
            assert_eq!(addresses.iter().filter(|other| **other == address).count(), 1);
            assert_eq!(address.port(), peers[index].1.port());
        }
        assert_eq!(addresses[3].to_string(), "[fd6b:3f1e:9ac4:fff::4]:5000");
    }

    #[test]
    fn real_addresses_stand_for_nobody() {
        for real in ["192.0.2.1:1", "[::1]:1", "[fd6b:3f1e:9ac5::1]:1", "[::ffff:192.0.2.1]:1"] {
            assert!(!is_synthetic(real.parse().unwrap()), "{real}");
        }
        assert!(is_synthetic("[fd6b:3f1e:9ac4:ffff:ffff:ffff:ffff:ffff]:1".parse().unwrap()));
    }

    #[test]
    fn forgotten_peers_get_another_address() {
        let mut synthetic = Synthetic::with_capacity(2);
        let [one, two, three] = [1, 2, 3].map(|relay| peer(relay, "192.0.2.1:5000"));
        let (first, second) = (synthetic.address_of(one), synthetic.address_of(two));
        assert_eq!(synthetic.peer_at(first), Some(one), "used");
        let third = synthetic.address_of(three);
        assert_eq!(
            [first, second, third].map(|address| synthetic.peer_at(address)),
            [Some(one), None, Some(three)]
        );
        let again = synthetic.address_of(two);
        assert_ne!(again, second);
        assert_eq!(synthetic.peer_at(again), Some(two));
        assert_eq!(synthetic.peers.len(), 2);
    }
}

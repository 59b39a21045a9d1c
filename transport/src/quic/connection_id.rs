//! Connection IDs that carry the number of the relay that has chosen them.
//!
//! The relays of a cluster choose them in the form of the IETF's QUIC-LB draft, so that a load balancer that knows the
//! [format](CidFormat) keeps a client on its relay wherever it moves, and so that every relay knows whose packet it has
//! got. The numbers for a balancer's configuration are [`SERVER_ID_BYTES`] and [`NONCE_BYTES`]; the first octet tells
//! the length.
//!
//! Server ID and nonce are 16 octets together, which is an AES block: one pass of AES reads an ID, and the attacks on
//! the draft's four passes (its section 9.8) do not concern it. The nonce is random. The draft forbids to use one twice
//! and recommends a counter where nonces are short; of these, two in 2⁵⁶ are the same, and nothing has to be remembered
//! over a restart, or agreed on between the old process of a relay and the new one.

mod codec;

use codec::Codec;
use converge_certs::Identity;
use converge_proto::RelayNumber;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use std::{fmt, sync::Arc, time::Duration};

/// The number of a relay in a connection ID, big-endian.
pub const SERVER_ID_BYTES: usize = 2;
/// What makes each connection ID another one.
pub const NONCE_BYTES: usize = 14;
/// The key of encrypted connection IDs, for AES-128.
pub const KEY_BYTES: usize = 16;
/// Of a whole connection ID, with its first octet.
pub const CONNECTION_ID_BYTES: usize = 1 + SERVER_ID_BYTES + NONCE_BYTES;

/// The draft's config rotation: which of its configurations a connection ID belongs to, 0 to 6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation(u8);

impl Rotation {
    /// `None` above 6; the draft keeps 7 for IDs that are not routed.
    pub fn new(rotation: u8) -> Option<Self> {
        (rotation <= 6).then_some(Self(rotation))
    }
}

/// Whether everybody may see which relay a connection ID belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Everybody on the way can, and so link the addresses of a client that moves a little better. The balancer needs
    /// no key. The draft (section 9) would have such a server give a client no IDs but the first; ours does, as quinn
    /// does so by itself, and they are worth as much as others without a key.
    Plaintext,
    /// Only who has this AES-128 key.
    Encrypted {
        /// The key, as in the balancer's configuration.
        key: [u8; KEY_BYTES],
    },
}

impl Protection {
    /// Encrypted with a key derived from the identity's secret, which is the same on all relays of a cluster.
    pub fn derived(identity: &Identity) -> Self {
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            identity.derived_secret("quic-lb connection id");
        Self::Encrypted { key }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "Plaintext",
            Self::Encrypted { .. } => "Encrypted",
        })
    }
}

/// How the connection IDs of a cluster look. The same on all of its relays, and on the balancer when that reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidFormat {
    /// The draft's config rotation.
    pub rotation: Rotation,
    /// Whether they are encrypted.
    pub protection: Protection,
}

/// Writes and reads the connection IDs of one format.
#[derive(Clone)]
pub struct ClusterCids(Arc<Codec>);

impl fmt::Debug for ClusterCids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterCids")
    }
}

impl ClusterCids {
    /// `None` when the crypto library does not take the key, which it does with every one of this length.
    pub fn new(format: CidFormat) -> Option<Self> {
        let key = match &format.protection {
            Protection::Plaintext => None,
            Protection::Encrypted { key } => Some(key),
        };
        Codec::new(format.rotation.0, SERVER_ID_BYTES, NONCE_BYTES, key).map(|codec| Self(Arc::new(codec)))
    }

    /// The connection ID of this relay with this nonce, which must never have been used before with the same format.
    /// `None` when the crypto library fails, which it does not on blocks of this length.
    pub fn encode(&self, relay: RelayNumber, nonce: [u8; NONCE_BYTES]) -> Option<ConnectionId> {
        self.0.encode(&relay.get().to_be_bytes(), &nonce).map(|id| ConnectionId::new(&id))
    }

    /// Whose connection ID this is, or `None` when it is not of this format. One in 4096 of all other IDs of this length
    /// passes for one of this format.
    pub fn decode(&self, id: &[u8]) -> Option<RelayNumber> {
        let server_id = self.0.decode(id)?;
        RelayNumber::new(u16::from_be_bytes(server_id.try_into().ok()?))
    }
}

/// Chooses the connection IDs of one relay.
pub(super) struct Generator {
    cids: ClusterCids,
    relay: RelayNumber,
}

impl Generator {
    pub(super) fn new(cids: ClusterCids, relay: RelayNumber) -> Self {
        Self { cids, relay }
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        // What no relay reads is better than none: the draft's IDs that are routed by addresses begin with these bits.
        let unrouted = || {
            let [first, rest @ ..]: [u8; CONNECTION_ID_BYTES] = rand::random();
            ConnectionId::new(&[&[first | 0b1110_0000], &rest[..]].concat())
        };
        self.cids.encode(self.relay, rand::random()).unwrap_or_else(unrouted)
    }

    /// Those of all relays: the ones of a relay that is gone, and the ones that should have gone to another, are answered
    /// by a stateless reset.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.cids.decode(id).map(drop).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn formats() -> [CidFormat; 2] {
        [Protection::Plaintext, Protection::Encrypted { key: [5; KEY_BYTES] }]
            .map(|protection| CidFormat { rotation: Rotation::new(2).unwrap(), protection })
    }

    fn relay(number: u16) -> RelayNumber {
        RelayNumber::new(number).unwrap()
    }

    #[test]
    fn rotation_7_is_not_ours_to_use() {
        assert_eq!(Rotation::new(7), None);
        assert!(Rotation::new(6).is_some());
    }

    #[test]
    fn what_is_no_relays_number_is_no_relays_id() {
        for number in [0_u16, 4096, u16::MAX] {
            let [high, low] = number.to_be_bytes();
            let id = [&[2 << 5 | 16, high, low][..], &[0xaa; NONCE_BYTES]].concat();
            assert_eq!(ClusterCids::new(formats()[0]).unwrap().decode(&id), None, "{number}");
        }
    }

    #[test]
    fn plaintext_shows_the_number() {
        let cids = ClusterCids::new(formats()[0]).unwrap();
        let id = cids.encode(relay(0x0123), [0xaa; NONCE_BYTES]).unwrap();
        assert_eq!(id[..4], [2 << 5 | 16, 0x01, 0x23, 0xaa]);
    }

    #[test]
    fn generated_ids_are_all_different_and_say_whose_they_are() {
        for format in formats() {
            let cids = ClusterCids::new(format).unwrap();
            let mut generator = Generator::new(cids.clone(), relay(77));
            let ids: HashSet<_> = (0..1000).map(|_| generator.generate_cid()).collect();
            assert_eq!(ids.len(), 1000);
            for id in ids {
                assert_eq!(id.len(), generator.cid_len());
                assert_eq!(cids.decode(&id), Some(relay(77)));
                assert!(generator.validate(&id).is_ok());
            }
        }
    }

    #[test]
    fn ids_of_other_relays_are_valid_and_those_of_other_clusters_are_rarely() {
        let cids = ClusterCids::new(formats()[1]).unwrap();
        let generator = Generator::new(cids.clone(), relay(1));
        assert!(generator.validate(&cids.encode(relay(2), [1; NONCE_BYTES]).unwrap()).is_ok());
        assert!(generator.validate(&ConnectionId::new(&[0x50; 8])).is_err());
        let others = CidFormat { protection: Protection::Encrypted { key: [6; KEY_BYTES] }, ..formats()[1] };
        let mut other = Generator::new(ClusterCids::new(others).unwrap(), relay(1));
        let valid = (0..1000).filter(|_| generator.validate(&other.generate_cid()).is_ok()).count();
        assert!(valid < 200, "{valid} of 1000; one in 16 was to be expected");
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", formats()[1].protection), "Encrypted");
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number in 1_u16..=4095, nonce in any::<[u8; NONCE_BYTES]>()) {
            for format in formats() {
                let cids = ClusterCids::new(format).unwrap();
                prop_assert_eq!(cids.decode(&cids.encode(relay(number), nonce).unwrap()), Some(relay(number)));
            }
        }

        #[test]
        fn decoding_takes_anything(id in prop::collection::vec(any::<u8>(), 0..30)) {
            for format in formats() {
                let _ = ClusterCids::new(format).unwrap().decode(&id);
            }
        }
    }
}

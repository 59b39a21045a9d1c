//! Which relay a datagram is for.

use crate::quic::{CONNECTION_ID_BYTES, ClusterCids};
use converge_proto::RelayNumber;

/// The header form, in the first byte of every QUIC packet (RFC 8999 section 5).
const LONG_HEADER: u8 = 0x80;
/// The bits of a long header's type in version 1, and that of a Handshake packet (RFC 9000 section 17.2).
const LONG_TYPE: u8 = 0x30;
const HANDSHAKE: u8 = 0x20;
const VERSION_1: [u8; 4] = [0, 0, 0, 1];

/// The relay that has chosen the destination connection ID of this datagram's first packet; the others of a datagram have
/// the same (RFC 9000 section 12.2). `None` when the ID says nothing, or may be a client's own choice: that of an Initial
/// or 0-RTT packet, and of everything in another version than 1, whose packet types have other numbers.
pub(super) fn whose(datagram: &[u8], cids: &ClusterCids) -> Option<RelayNumber> {
    cids.decode(chosen_by_relay(datagram)?)
}

/// A connection ID that only a relay can have chosen, when it is as long as one of a relay's.
pub(super) fn chosen_by_relay(datagram: &[u8]) -> Option<&[u8; CONNECTION_ID_BYTES]> {
    let (first, rest) = datagram.split_first()?;
    if first & LONG_HEADER == 0 {
        return rest.first_chunk();
    }
    let (version, rest) = rest.split_first_chunk()?;
    if *version != VERSION_1 || first & LONG_TYPE != HANDSHAKE {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    if usize::from(*length) != CONNECTION_ID_BYTES {
        return None;
    }
    rest.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quic::{CidFormat, NONCE_BYTES, Protection, Rotation};
    use proptest::prelude::*;

    fn cids() -> ClusterCids {
        let protection = Protection::Encrypted { key: [3; 16] };
        ClusterCids::new(CidFormat { rotation: Rotation::default(), protection }).unwrap()
    }

    fn relay() -> RelayNumber {
        RelayNumber::new(9).unwrap()
    }

    fn id() -> Vec<u8> {
        cids().encode(relay(), [4; NONCE_BYTES]).unwrap().to_vec()
    }

    fn short(first: u8) -> Vec<u8> {
        [&[first][..], &id(), b"packet number and payload"].concat()
    }

    fn long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
        let length = u8::try_from(id.len()).unwrap();
        [&[first][..], &version.to_be_bytes(), &[length], id, &[3, 1, 2, 3], b"payload"].concat()
    }

    #[test]
    fn short_headers_tell_whatever_their_other_bits_are() {
        for first in 0..0x80 {
            assert_eq!(whose(&short(first), &cids()), Some(relay()), "{first:#x}");
        }
    }

    #[test]
    fn of_long_headers_only_handshakes_of_version_1_tell() {
        for first in 0x80..=0xff {
            let is_handshake = first & 0x30 == 0x20;
            assert_eq!(whose(&long(first, 1, &id()), &cids()), is_handshake.then(relay), "{first:#x}");
            for version in [0, 2, 0x6b33_43cf, 0xff00_001d] {
                assert_eq!(whose(&long(first, version, &id()), &cids()), None, "{first:#x} {version:#x}");
            }
        }
        for wrong in [&id()[..16], &[&id()[..], &[0]].concat(), &[]] {
            assert_eq!(whose(&long(0xe0, 1, wrong), &cids()), None, "{} bytes", wrong.len());
        }
    }

    #[test]
    fn what_is_too_short_tells_nothing() {
        for datagram in [short(0x40), long(0xe0, 1, &id())] {
            let end = datagram.windows(id().len()).position(|part| part == id()).unwrap() + id().len();
            for length in 0..end {
                assert_eq!(whose(&datagram[..length], &cids()), None, "{length} bytes");
            }
            assert_eq!(whose(&datagram[..end], &cids()), Some(relay()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(datagram in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = whose(&datagram, &cids());
        }
    }
}

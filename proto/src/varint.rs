//! Variable-length integers as QUIC writes them ([RFC 9000 section 16]).
//!
//! [RFC 9000 section 16]: https://www.rfc-editor.org/rfc/rfc9000#section-16

use bytes::BufMut;
use std::fmt;

/// An integer from 0 to 2^62 - 1; on the wire 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VarInt(u64);

impl VarInt {
    /// The largest value, 2^62 - 1.
    pub const MAX: Self = Self((1 << 62) - 1);
    /// The most bytes one value takes on the wire.
    pub const MAX_LEN: usize = 8;

    /// A constant that is known to fit because it has 32 bits.
    pub const fn from_u32(value: u32) -> Self {
        Self(value as u64)
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How many bytes [`encode`](Self::encode) writes: always the shortest form.
    pub const fn encoded_len(self) -> usize {
        match self.0 {
            0..0x40 => 1,
            0x40..0x4000 => 2,
            0x4000..0x4000_0000 => 4,
            _ => 8,
        }
    }

    /// Appends the shortest form.
    pub fn encode(self, out: &mut impl BufMut) {
        let tag: u64 = match self.encoded_len() {
            1 => 0b00,
            2 => 0b01,
            4 => 0b10,
            _ => 0b11,
        };
        let len = self.encoded_len();
        out.put_uint(self.0 | (tag << (len * 8 - 2)), len);
    }

    /// Takes a value off the front of `input`, which need not be in its shortest form.
    ///
    /// Returns the value and the number of bytes it took, or `None` when `input` ends too early.
    pub fn decode(input: &[u8]) -> Option<(Self, usize)> {
        let first = *input.first()?;
        let len = 1usize << (first >> 6);
        let value = input
            .get(1..len)?
            .iter()
            .fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
        Some((Self(value), len))
    }
}

impl TryFrom<u64> for VarInt {
    type Error = VarIntTooLarge;

    fn try_from(value: u64) -> Result<Self, VarIntTooLarge> {
        if value <= Self::MAX.0 { Ok(Self(value)) } else { Err(VarIntTooLarge(value)) }
    }
}

impl fmt::Debug for VarInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for VarInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number needs more than the 62 bits that a [`VarInt`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} does not fit a QUIC variable-length integer (at most 2^62 - 1)")]
pub struct VarIntTooLarge(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        VarInt::try_from(value).unwrap().encode(&mut out);
        out
    }

    #[test]
    fn examples_of_rfc_9000_appendix_a_1() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(encoded(value), bytes);
            assert_eq!(VarInt::decode(bytes), Some((VarInt(value), bytes.len())));
        }
        assert_eq!(VarInt::decode(&[0x40, 0x25]), Some((VarInt(37), 2)), "longer forms are accepted");
    }

    #[test]
    fn every_length_round_trips_at_its_edges() {
        for edge in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, VarInt::MAX.0] {
            let bytes = encoded(edge);
            assert_eq!(bytes.len(), VarInt(edge).encoded_len());
            assert_eq!(VarInt::decode(&bytes), Some((VarInt(edge), bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(VarInt::decode(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn one_more_than_the_largest_is_refused() {
        assert_eq!(VarInt::try_from(VarInt::MAX.0 + 1), Err(VarIntTooLarge(1 << 62)));
    }
}

//! Which relay of a cluster is meant.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::{fmt, str::FromStr};

/// The number of a relay in its cluster: 1 to 4095, given out once, by whoever makes the relay's certificate.
///
/// Twelve bits, so that it fits into a connection ID. 0 is no relay's, for what is not from a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayNumber(u16);

impl RelayNumber {
    /// The smallest.
    pub const MIN: Self = Self(1);
    /// The largest.
    pub const MAX: Self = Self(4095);

    /// The number, when it is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= Self::MIN.0 && number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// As a plain number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for RelayNumber {
    type Error = InvalidRelayNumber;

    fn try_from(number: u16) -> Result<Self, InvalidRelayNumber> {
        Self::new(number).ok_or(InvalidRelayNumber)
    }
}

impl From<RelayNumber> for u16 {
    fn from(number: RelayNumber) -> Self {
        number.0
    }
}

/// Digits only, and none too many: there is one way to write each.
impl FromStr for RelayNumber {
    type Err = InvalidRelayNumber;

    fn from_str(text: &str) -> Result<Self, InvalidRelayNumber> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| is_plain);
        number.and_then(Self::new).ok_or(InvalidRelayNumber)
    }
}

impl fmt::Display for RelayNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RelayNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<C> Encode<C> for RelayNumber {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RelayNumber {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.u16()?.try_into().map_err(decode::Error::message)
    }
}

/// Why a number or a text is no relay's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the number of a relay is one of {} to {}", RelayNumber::MIN, RelayNumber::MAX)]
pub struct InvalidRelayNumber;

#[cfg(test)]
mod tests {
    use super::*;
    use minicbor::{decode, to_vec};

    #[test]
    fn numbers_are_those_of_twelve_bits_without_zero() {
        for good in [1, 7, 4095] {
            let number = RelayNumber::new(good).unwrap();
            assert_eq!((number.get(), u16::from(number)), (good, good));
            assert_eq!(number.to_string().parse(), Ok(number));
        }
        for bad in [0, 4096, u16::MAX] {
            assert_eq!(RelayNumber::new(bad), None);
            assert_eq!(RelayNumber::try_from(bad), Err(InvalidRelayNumber));
        }
    }

    #[test]
    fn each_number_is_written_in_one_way() {
        for text in ["", "0", "01", "+1", "-1", " 1", "1 ", "4096", "65537", "one", "\u{661}"] {
            assert_eq!(text.parse::<RelayNumber>(), Err(InvalidRelayNumber), "{text:?}");
        }
        assert_eq!(InvalidRelayNumber.to_string(), "the number of a relay is one of 1 to 4095");
    }

    #[test]
    fn wire_has_the_number_and_others_are_refused() {
        let number = RelayNumber::new(300).unwrap();
        let bytes = to_vec(number).unwrap();
        assert_eq!(bytes, [0x19, 0x01, 0x2c]);
        assert_eq!(decode::<RelayNumber>(&bytes).unwrap(), number);
        for wrong in [&[0x00][..], &[0x19, 0x10, 0x00], &[0x20], &[0x61, b'1']] {
            assert!(decode::<RelayNumber>(wrong).is_err(), "{wrong:?}");
        }
    }
}

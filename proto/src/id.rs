//! The rendezvous ID under which an agent can be reached.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::{fmt, str::FromStr};

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, not starting or ending with `-`. Not a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// The most characters an ID has, as in any DNS label.
    pub const MAX_LEN: usize = 63;
    /// How many random bytes [`generate`](Self::generate) wants: 48 bits.
    pub const ENTROPY_BYTES: usize = 6;

    /// A readable ID from random bytes, such as `lusab-babad-gutih`.
    ///
    /// Each pair of bytes becomes a word of alternating consonants and vowels that can be said over a telephone
    /// (the "proquint" spelling of integers); the same bytes always give the same ID.
    pub fn generate(random: [u8; Self::ENTROPY_BYTES]) -> Self {
        let words = random.as_chunks::<2>().0.iter().map(|pair| word(u16::from_be_bytes(*pair)));
        Self(words.collect::<Vec<_>>().join("-"))
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 16 bits as consonant (4) vowel (2) consonant (4) vowel (2) consonant (4).
fn word(bits: u16) -> String {
    const CONSONANTS: [char; 16] =
        ['b', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z'];
    const VOWELS: [char; 4] = ['a', 'i', 'o', 'u'];
    let consonant = |shift: u16| CONSONANTS.get(usize::from(bits >> shift & 0xf));
    let vowel = |shift: u16| VOWELS.get(usize::from(bits >> shift & 0x3));
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].into_iter().flatten().collect()
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(InvalidId::TooLong { len: text.len() });
        }
        if let Some(character) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(InvalidId::Character { character });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(InvalidId::HyphenAtEdge);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for Id {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Id {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(decode::Error::message)
    }
}

/// Why a text is not an ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("an ID cannot be empty")]
    Empty,
    /// Over [`Id::MAX_LEN`].
    #[error("an ID has at most {} characters, this one has {len}", Id::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Something else than `a-z`, `0-9` or `-`.
    #[error("an ID is made of a-z, 0-9 and '-', not of {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// It starts or ends with `-`.
    #[error("an ID does not start or end with '-'")]
    HyphenAtEdge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_that_of_a_dns_label_and_nothing_else() {
        for good in ["a", "0", "a-b", "build--7", &"x".repeat(63)] {
            assert_eq!(good.parse::<Id>().unwrap().to_string(), good);
        }
        let bad = [
            ("", InvalidId::Empty),
            (&"x".repeat(64), InvalidId::TooLong { len: 64 }),
            ("Build", InvalidId::Character { character: 'B' }),
            ("a.b", InvalidId::Character { character: '.' }),
            ("a\u{fc}", InvalidId::Character { character: '\u{fc}' }),
            ("-a", InvalidId::HyphenAtEdge),
            ("a-", InvalidId::HyphenAtEdge),
            ("-", InvalidId::HyphenAtEdge),
        ];
        for (text, reason) in bad {
            assert_eq!(text.parse::<Id>(), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn generated_ids_are_ids_and_keep_every_bit() {
        // The examples of the proquint proposal: 127.0.0.1 and 63.84.220.193.
        assert_eq!(Id::generate([127, 0, 0, 1, 63, 84]).as_str(), "lusab-babad-gutih");
        let low = Id::generate([0; 6]);
        assert_eq!(low.as_str().parse::<Id>().unwrap(), low);
        for bit in 0..48 {
            let random = (1u64 << bit).to_be_bytes();
            assert_ne!(Id::generate(random[2..].try_into().unwrap()), low, "bit {bit} has no effect");
        }
    }
}

//! Short texts that a peer wrote and a person will read.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::fmt;

/// A text of at most `MAX` bytes without control characters.
///
/// What a peer wrote ends on terminals and in logs, so nothing in it may move a cursor or start a new line: on
/// decoding and construction every control character becomes `U+FFFD`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Cuts `text` to `MAX` bytes, at a character, and replaces control characters.
    pub fn new(text: impl AsRef<str>) -> Self {
        let mut clean = String::new();
        for character in
            text.as_ref().chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c })
        {
            if clean.len() + character.len_utf8() > MAX {
                break;
            }
            clean.push(character);
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, and the marks that change the direction of the text around them.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize, C> Encode<C> for Text<MAX> {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, const MAX: usize, C> Decode<'b, C> for Text<MAX> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let text = d.str()?;
        if text.len() > MAX {
            return Err(decode::Error::message(format!(
                "a text of {} bytes; at most {MAX} are allowed",
                text.len()
            )));
        }
        Ok(Self::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_peer_wrote_can_drive_a_terminal() {
        let text = Text::<64>::new("a\x1b[2Jb\r\nc\u{202e}d");
        assert_eq!(text.as_str(), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn long_texts_are_cut_here_and_refused_from_a_peer() {
        assert_eq!(Text::<4>::new("abcäöü").as_str(), "abc");
        let wire = minicbor::to_vec(Text::<8>::new("abcdefgh")).unwrap();
        assert_eq!(decode::<Text<8>>(&wire).unwrap().as_str(), "abcdefgh");
        assert!(decode::<Text<7>>(&wire).is_err());
    }
}

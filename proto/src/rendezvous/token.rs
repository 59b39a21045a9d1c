//! What a peer shows to be let in by a relay.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::{fmt, str::FromStr};

/// A bearer token ([RFC 6750 section 2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)): a relay's own, or the
/// OIDC token (a JWT) of a CI system. A secret: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Tokens of CI systems have about 2 KiB.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The token itself, to be compared or sent, never to be shown.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There is nothing.
    #[error("the token is empty")]
    Empty,
    /// It is longer than [`Token::MAX_BYTES`].
    #[error("a token of {0} bytes; at most {max} are allowed", max = Token::MAX_BYTES)]
    TooLong(usize),
    /// Something that no token has in it.
    #[error("a token has letters, digits and -._~+/= only")]
    Character,
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.is_empty() {
            Err(InvalidToken::Empty)
        } else if text.len() > Self::MAX_BYTES {
            Err(InvalidToken::TooLong(text.len()))
        } else if !text.bytes().all(belongs) {
            Err(InvalidToken::Character)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

impl<C> Encode<C> for Token {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Token {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(decode::Error::message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_what_rfc_6750_says_and_are_never_shown() {
        let token: Token = "abc.DEF-123_~+/==".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(17 bytes)");
        assert_eq!("".parse::<Token>(), Err(InvalidToken::Empty));
        assert_eq!("a b".parse::<Token>(), Err(InvalidToken::Character));
        assert_eq!("a\n".parse::<Token>(), Err(InvalidToken::Character));
        let long = "x".repeat(Token::MAX_BYTES + 1);
        assert_eq!(long.parse::<Token>(), Err(InvalidToken::TooLong(long.len())));
    }
}

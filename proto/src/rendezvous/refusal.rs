//! Why a relay, or an agent, says no.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::fmt;

/// The number in a [`Refused`](super::Refused) frame. Open: unknown numbers survive and print as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalCode(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $number:literal $constant:ident $name:literal),* $(,)?) => {
        impl RefusalCode {
            $($(#[$doc])* pub const $constant: Self = Self($number);)*

            /// Every code that has a name, in order.
            pub const KNOWN: &[(Self, &str)] = &[$((Self::$constant, $name)),*];
        }
    };
}

codes! {
    /// The bytes made no sense, or came in the wrong order.
    1 PROTOCOL_VIOLATION "protocol_violation",
    /// A kind of session, or a critical frame, that this relay does not know.
    2 UNSUPPORTED "unsupported",
    /// No agent has this ID, and the wait is over.
    3 NO_SUCH_ID "no_such_id",
    /// The proof is not the host key's signature over this connection.
    4 BAD_PROOF "bad_proof",
    /// A limit is reached: agents, sessions of the agent, waiting clients.
    5 LIMIT "limit",
    /// The agent's link broke while the session was set up.
    6 AGENT_LOST "agent_lost",
    /// The sender is about to stop.
    7 STOPPING "stopping",
    /// The relay could not do it for a reason of its own.
    8 INTERNAL "internal",
    /// The agent has no such session, or has it no more.
    9 NO_SUCH_SESSION "no_such_session",
    /// The secret is not the session's.
    10 BAD_SECRET "bad_secret",
    /// A newer attach of the same session came before this one.
    11 SUPERSEDED "superseded",
    /// The session had been without a client for longer than it is kept.
    12 EXPIRED "expired",
    /// The relay wants a token, or this one is wrong or has expired.
    13 UNAUTHORIZED "unauthorized",
    /// The relay knows who asks, and does not let them: their network, or what their token says of them.
    14 FORBIDDEN "forbidden",
}

impl RefusalCode {
    /// Whether asking again in a while, without any change, may succeed.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::NO_SUCH_ID | Self::LIMIT | Self::AGENT_LOST | Self::STOPPING | Self::INTERNAL)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _)| known == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "refusal {}", self.0),
        }
    }
}

impl<C> Encode<C> for RefusalCode {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u32(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RefusalCode {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.u32().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_once_and_in_order() {
        assert!(RefusalCode::KNOWN.windows(2).all(|pair| pair[0].0.0 < pair[1].0.0));
        assert_eq!(RefusalCode(99).to_string(), "refusal 99");
    }
}

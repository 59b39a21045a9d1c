//! What a registered agent tells its relay of its life, and what the relay's operator may ask of it.
//!
//! All of these frames are odd: a peer that is older skips them.

use super::messages::{Line, Name};
use minicbor::{Decode, Encode};
use std::time::Duration;

/// Agent → relay, when it has registered and whenever it has changed: how things are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// SSH connections of users that are logged in.
    #[n(0)]
    pub users: u32,
    /// Whether the agent stays when the last user leaves.
    #[n(1)]
    pub held: bool,
    /// When the nearest clock ends the agent, in milliseconds from now; without it no clock runs.
    #[n(2)]
    pub expires_ms: Option<u64>,
    /// Which clock that is: `first`, `idle` or `lifetime`.
    #[n(3)]
    pub clock: Option<Name>,
}

impl Status {
    /// When the nearest clock ends the agent, from now.
    pub fn expires(&self) -> Option<Duration> {
        self.expires_ms.map(Duration::from_millis)
    }
}

/// Agent → relay: users are being warned that the agent ends soon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExpiryWarning {
    /// Milliseconds that are left.
    #[n(0)]
    pub remaining_ms: u64,
    /// Why it ends, for people.
    #[n(1)]
    pub reason: Line,
}

/// Relay → agent: the operator asks for something. Exactly one of the fields but the number is there; an agent that
/// finds none has met a newer relay and answers so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// Comes back in the [`Response`].
    #[n(0)]
    pub number: u64,
    /// End, after telling users why.
    #[n(1)]
    pub stop: Option<Line>,
    /// Nothing but the hard cap ends the agent for at least so many milliseconds.
    #[n(2)]
    pub extend_ms: Option<u64>,
    /// Show this to everybody who is logged in.
    #[n(3)]
    pub message: Option<Line>,
}

/// Agent → relay: the answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Response {
    /// The number of the request.
    #[n(0)]
    pub number: u64,
    /// Why it was not done, for people; without it, it was.
    #[n(1)]
    pub refusal: Option<Line>,
}

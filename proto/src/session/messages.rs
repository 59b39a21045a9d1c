//! The payloads of a session's frames, and the names they use.

use crate::rendezvous::{RefusalCode, messages::Line};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::{fmt, time::Duration};
use subtle::ConstantTimeEq;

/// A session's name, made by its client from random bytes. Not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SessionId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl fmt::Display for SessionId {
    /// The first eight hexadecimal digits, which is enough to tell the sessions of a log apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a client must show to attach its session again, made by it from random bytes. Compared in constant time.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(transparent)]
pub struct Secret(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Client → agent, first frame of a session's stream: join this session to this stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attach {
    /// Which session.
    #[n(0)]
    pub session: SessionId,
    /// What shows that it is this client's.
    #[n(1)]
    pub secret: Secret,
    /// Grows with every attach of the session, so that one that was delayed cannot undo a later one.
    #[n(2)]
    pub attempt: u32,
    /// The session must be there already; without this it is begun when it is not.
    #[n(3)]
    pub resume: bool,
    /// The offset up to which the client has received everything, on any stream.
    #[n(4)]
    pub received: u64,
    /// The offset up to which the agent may send.
    #[n(5)]
    pub limit: u64,
    /// The first bytes of the session, from offset 0: what the client could send before it has read an `Attached`, and so a
    /// round trip earlier. An agent that has any byte of the session passes them over.
    #[n(6)]
    pub first: Option<FirstBytes>,
}

/// What goes along with an [`Attach`], at most [`MAX_BYTES`](Self::MAX_BYTES).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstBytes(Vec<u8>);

impl FirstBytes {
    /// As long as SSH's first line may be (RFC 4253 section 4.2).
    pub const MAX_BYTES: usize = 255;

    /// Those of `bytes` that there is room for.
    pub fn of(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(Self::MAX_BYTES);
        Self(bytes)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<C> Encode<C> for FirstBytes {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for FirstBytes {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(decode::Error::message(format!("{} first bytes are too many", bytes.len())));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Agent → client: the session is joined to this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attached {
    /// The offset up to which the agent has received everything. The client sends from there.
    #[n(0)]
    pub received: u64,
    /// The offset up to which the client may send.
    #[n(1)]
    pub limit: u64,
    /// The offset from which the agent sends. More than the client's `received` when a later `Ack` came before the
    /// `Attach`, and never more than the client has.
    #[n(2)]
    pub start: u64,
}

/// Either side: what has arrived, and how much more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ack {
    /// The offset up to which everything was received; a `Fin` counts as one byte.
    #[n(0)]
    pub received: u64,
    /// The offset up to which the receiver of this frame may send.
    #[n(1)]
    pub limit: u64,
}

/// Either side: the session ends at once, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reset {
    /// Why, for programs.
    #[n(0)]
    pub code: RefusalCode,
    /// Why, for people.
    #[n(1)]
    pub text: Line,
}

/// Agent → client: something for the person at the client. Not repeated when the stream is lost.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Notice {
    /// How urgent.
    #[n(0)]
    pub severity: Severity,
    /// What it is.
    #[n(1)]
    pub text: Line,
    /// When what it announces will happen, in milliseconds from now.
    #[n(2)]
    pub remaining_ms: Option<u32>,
}

impl Notice {
    /// When what it announces will happen, from now.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining_ms.map(|ms| Duration::from_millis(ms.into()))
    }
}

/// How urgent a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something will happen unless the person does something.
    Warning,
    /// A severity of a newer agent.
    Other(u32),
}

impl<C> Encode<C> for Severity {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let number = match self {
            Self::Info => 0,
            Self::Warning => 1,
            Self::Other(number) => *number,
        };
        e.u32(number)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Severity {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(match d.u32()? {
            0 => Self::Info,
            1 => Self::Warning,
            other => Self::Other(other),
        })
    }
}

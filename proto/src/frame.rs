//! The one shape everything on the wire has: `type (varint) · length (varint) · payload`.
//!
//! This file lists every frame number. A retired number stays in the list, marked as such.

use crate::varint::VarInt;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// The longest payload of a control frame, in bytes. Checked before anything is allocated.
pub const MAX_CONTROL_PAYLOAD_BYTES: usize = 64 * 1024;

/// The longest header: two varints of eight bytes.
const MAX_HEADER_BYTES: usize = 2 * VarInt::MAX_LEN;

/// What a frame means. Open: a number nobody here knows is a value too, and prints in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameType(pub VarInt);

macro_rules! frame_types {
    ($($(#[$doc:meta])* $number:literal $constant:ident $name:literal),* $(,)?) => {
        impl FrameType {
            $($(#[$doc])* pub const $constant: Self = Self(VarInt::from_u32($number));)*

            /// Every number that has a name, in order.
            pub const KNOWN: &[(Self, &str)] = &[$((Self::$constant, $name)),*];
        }
    };
}

frame_types! {
    /// Agent → relay, first frame of a link: [`Register`](crate::rendezvous::Register).
    0x02 REGISTER "Register",
    /// Relay → agent: [`Challenge`](crate::rendezvous::Challenge).
    0x04 CHALLENGE "Challenge",
    /// Agent → relay, answer to a challenge: [`Proof`](crate::rendezvous::Proof).
    0x06 PROOF "Proof",
    /// Relay → agent, end of the registration: [`Registered`](crate::rendezvous::Registered).
    0x08 REGISTERED "Registered",
    /// Relay → agent or client: [`Refused`](crate::rendezvous::Refused). The stream ends after it.
    0x0a REFUSED "Refused",
    /// Client → relay, first frame of a stream: [`Connect`](crate::rendezvous::Connect).
    0x10 CONNECT "Connect",
    /// Client → relay, first frame of a stream: [`Lookup`](crate::rendezvous::Lookup).
    0x12 LOOKUP "Lookup",
    /// Relay → client: [`Connected`](crate::rendezvous::Connected). Session bytes follow.
    0x14 CONNECTED "Connected",
    /// Relay → client: [`Waiting`](crate::rendezvous::Waiting). Odd: it may be skipped.
    0x15 WAITING "Waiting",
    /// Relay → client, answer to `Lookup`: [`Found`](crate::rendezvous::Found). The stream ends after it.
    0x16 FOUND "Found",
    /// Relay → agent, first frame of a stream: [`Incoming`](crate::rendezvous::Incoming). Session bytes follow.
    0x18 INCOMING "Incoming",
    /// Both ways on the control stream and in a session: [`Ping`](crate::rendezvous::Ping).
    0x20 PING "Ping",
    /// Agent → relay on the control stream: [`Status`](crate::rendezvous::Status).
    0x21 STATUS "Status",
    /// Both ways on the control stream and in a session: [`Pong`](crate::rendezvous::Pong).
    0x22 PONG "Pong",
    /// Agent → relay on the control stream: [`ExpiryWarning`](crate::rendezvous::ExpiryWarning).
    0x23 EXPIRY_WARNING "ExpiryWarning",
    /// Relay → agent on the control stream: [`Goaway`](crate::rendezvous::Goaway).
    0x24 GOAWAY "Goaway",
    /// Relay → agent on the control stream: [`Request`](crate::rendezvous::Request).
    0x25 REQUEST "Request",
    /// Both ways on the control stream, the last frame: [`Bye`](crate::rendezvous::Bye).
    0x26 BYE "Bye",
    /// Agent → relay on the control stream: [`Response`](crate::rendezvous::Response).
    0x27 RESPONSE "Response",
    /// Relay → relay, first frame of a stream: [`Forward`](crate::cluster::Forward).
    0x28 FORWARD "Forward",
    /// Relay → relay, first frame of a stream: [`Ask`](crate::cluster::Ask). HTTP/1.1 follows.
    0x2a ASK "Ask",
    /// Relay → relay, first frame of a stream: [`Packets`](crate::cluster::Packets).
    0x2c PACKETS "Packets",
    /// Relay → relay, behind it: [`Packet`](crate::cluster::Packet).
    0x2e PACKET "Packet",
    /// Client → agent, first frame of a session's stream: [`Attach`](crate::session::Attach).
    0x30 ATTACH "Attach",
    /// Agent → client, the answer: [`Attached`](crate::session::Attached).
    0x32 ATTACHED "Attached",
    /// Both ways in a session: its bytes as they are, no CBOR.
    0x34 DATA "Data",
    /// Both ways in a session: [`Ack`](crate::session::Ack).
    0x36 ACK "Ack",
    /// Both ways in a session: the direction ends. The payload is empty.
    0x38 FIN "Fin",
    /// Both ways in a session: [`Reset`](crate::session::Reset). The session ends.
    0x3a RESET "Reset",
    /// Agent → client in a session: [`Notice`](crate::session::Notice). Odd: it may be skipped.
    0x3b NOTICE "Notice",
}

impl FrameType {
    /// Whether a peer that does not know this type may skip it (odd) or must give up the stream (even).
    pub const fn may_be_skipped(self) -> bool {
        self.0.get() % 2 == 1
    }

    /// Whether this version of the protocol has a meaning for it.
    pub fn is_known(self) -> bool {
        Self::KNOWN.iter().any(|(known, _)| *known == self)
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _)| known == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "frame {:#x}", self.0.get()),
        }
    }
}

impl fmt::Debug for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame as it was read: its type and its payload, not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub frame_type: FrameType,
    /// At most [`MAX_CONTROL_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

impl Frame {
    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        self.frame_type.0.encoded_len() + self.payload_len().encoded_len() + self.payload.len()
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.frame_type.0.encode(out);
        self.payload_len().encode(out);
        out.put_slice(&self.payload);
    }

    /// The frame alone, ready to be sent.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.freeze()
    }

    fn payload_len(&self) -> VarInt {
        VarInt::try_from(self.payload.len() as u64).unwrap_or(VarInt::MAX)
    }

    /// Takes one frame off the front of `input` when all of it is there; never a byte beyond it.
    ///
    /// `Ok(None)` means "not enough yet": nothing was taken, call again with more.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the length can be read, whether or not the payload is there.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some((frame_type, payload_len, header_len)) = decode_header(input)? else {
            return Ok(None);
        };
        if input.len() - header_len < payload_len {
            return Ok(None);
        }
        input.advance(header_len);
        Ok(Some(Self { frame_type, payload: input.split_to(payload_len).freeze() }))
    }
}

/// How many more bytes are needed at least before [`Frame::decode`] can return a frame, given what is there.
///
/// A reader that reads no more than this never consumes a byte beyond the frame.
///
/// # Errors
/// As [`Frame::decode`].
pub fn missing_bytes(input: &[u8]) -> Result<usize, FrameError> {
    match decode_header(input)? {
        Some((_, payload_len, header_len)) => Ok((header_len + payload_len).saturating_sub(input.len())),
        None => Ok(missing_header_bytes(input)),
    }
}

/// While the header is incomplete: what the varints seen so far still lack, and one for a length not begun.
fn missing_header_bytes(input: &[u8]) -> usize {
    debug_assert!(input.len() < MAX_HEADER_BYTES);
    let varint_len = |first: &u8| 1usize << (first >> 6);
    let Some(type_len) = input.first().map(varint_len) else { return 2 };
    match input.get(type_len) {
        Some(first) => type_len + varint_len(first) - input.len(),
        None => type_len + 1 - input.len(),
    }
}

/// The type, the length of the payload and that of the header, once all of the header is there.
pub(crate) fn decode_header(input: &[u8]) -> Result<Option<(FrameType, usize, usize)>, FrameError> {
    let Some((frame_type, type_len)) = VarInt::decode(input) else { return Ok(None) };
    let Some((payload_len, length_len)) = input.get(type_len..).and_then(VarInt::decode) else {
        return Ok(None);
    };
    let frame_type = FrameType(frame_type);
    match usize::try_from(payload_len.get()) {
        Ok(len) if len <= MAX_CONTROL_PAYLOAD_BYTES => Ok(Some((frame_type, len, type_len + length_len))),
        _ => Err(FrameError::TooLong { frame_type, announced_bytes: payload_len.get() }),
    }
}

/// What can be wrong with bytes that should be a frame. The peer is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit. Nothing was allocated for it.
    #[error(
        "{frame_type} announces {announced_bytes} bytes; at most {MAX_CONTROL_PAYLOAD_BYTES} are allowed"
    )]
    TooLong {
        /// The type it came with.
        frame_type: FrameType,
        /// The length it announced.
        announced_bytes: u64,
    },
    /// The payload is not what the type says.
    #[error("{frame_type} cannot be read: {detail}")]
    Malformed {
        /// The type it came with.
        frame_type: FrameType,
        /// What the decoder said.
        detail: String,
    },
    /// A type this side does not know and must not skip.
    #[error("{frame_type} is not supported")]
    Unsupported {
        /// The type.
        frame_type: FrameType,
    },
    /// A known type at the wrong time or from the wrong side.
    #[error("{frame_type} is not allowed here; expected {expected}")]
    Unexpected {
        /// The type.
        frame_type: FrameType,
        /// What would have been right.
        expected: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(frame_type: FrameType, payload: &'static [u8]) -> Frame {
        Frame { frame_type, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn frames_arriving_byte_by_byte_are_taken_whole_and_never_beyond() {
        let first = frame(FrameType::PING, b"abc");
        let second = frame(FrameType(VarInt::from_u32(0x4001)), b"");
        let mut wire = BytesMut::new();
        first.encode(&mut wire);
        assert_eq!(wire.len(), first.encoded_len());
        second.encode(&mut wire);
        wire.extend_from_slice(b"SSH-2.0-");

        let (mut input, mut seen) = (BytesMut::new(), Vec::new());
        for byte in wire {
            input.extend_from_slice(&[byte]);
            if seen.len() < 2 {
                seen.extend(Frame::decode(&mut input).unwrap());
            }
        }
        assert_eq!(seen, [first, second]);
        assert_eq!(&input[..], b"SSH-2.0-");
    }

    #[test]
    fn reading_only_the_missing_bytes_never_reads_beyond_the_frame() {
        let wire = frame(FrameType(VarInt::from_u32(0x4001)), &[7; 100]).to_bytes();
        let (mut have, mut reads) = (BytesMut::new(), 0);
        loop {
            let missing = missing_bytes(&have).unwrap();
            if missing == 0 {
                break;
            }
            let from = have.len();
            have.extend_from_slice(wire.get(from..from + missing).expect("asked beyond the frame"));
            reads += 1;
        }
        assert_eq!(have.len(), wire.len());
        assert!(reads <= 4, "{reads} reads for one frame");
    }

    #[test]
    fn the_limit_holds_on_both_sides_and_before_the_payload_is_there() {
        let mut at_limit = BytesMut::new();
        FrameType::PING.0.encode(&mut at_limit);
        VarInt::from_u32(u32::try_from(MAX_CONTROL_PAYLOAD_BYTES).unwrap()).encode(&mut at_limit);
        assert_eq!(Frame::decode(&mut at_limit), Ok(None));

        for announced in [MAX_CONTROL_PAYLOAD_BYTES as u64 + 1, VarInt::MAX.get()] {
            let mut over = BytesMut::new();
            FrameType::PING.0.encode(&mut over);
            VarInt::try_from(announced).unwrap().encode(&mut over);
            let error = FrameError::TooLong { frame_type: FrameType::PING, announced_bytes: announced };
            assert_eq!(missing_bytes(&over), Err(error.clone()));
            assert_eq!(Frame::decode(&mut over), Err(error));
        }
    }

    #[test]
    fn numbers_are_listed_once_and_in_order() {
        assert!(FrameType::KNOWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(FrameType(VarInt::from_u32(0x7e)).to_string(), "frame 0x7e");
        assert!(FrameType::WAITING.may_be_skipped() && !FrameType::CONNECTED.may_be_skipped());
    }
}

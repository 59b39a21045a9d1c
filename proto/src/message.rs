//! Payloads of frames: CBOR maps ([RFC 8949]) with small integer keys, unknown keys ignored.
//!
//! [RFC 8949]: https://www.rfc-editor.org/rfc/rfc8949

use crate::{
    cluster::{Ask, Forward, Packet, Packets},
    frame::{Frame, FrameError, FrameType},
    rendezvous::{
        messages::{
            Bye, Challenge, Connect, Connected, Found, Goaway, Incoming, Lookup, Ping, Pong, Proof, Refused,
            Register, Registered, Waiting,
        },
        status::{ExpiryWarning, Request, Response, Status},
    },
    session::messages::{Ack, Attach, Attached, Notice, Reset},
};
use minicbor::{Decode, Decoder, Encode, encode};

/// A payload that belongs to one frame type.
pub trait Message: Sized + Encode<()> + for<'b> Decode<'b, ()> {
    /// The frame it travels in.
    const FRAME_TYPE: FrameType;

    /// The frame that carries this message.
    fn to_frame(&self) -> Frame {
        let mut payload = Vec::new();
        // Writing to a vector cannot fail, and no `Encode` here fails by itself.
        let encoded = encode(self, &mut payload);
        debug_assert!(encoded.is_ok());
        Frame { frame_type: Self::FRAME_TYPE, payload: payload.into() }
    }

    /// Reads the message from a frame of its type.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`] for a frame of another type; [`FrameError::Malformed`] when the payload is not
    /// this message, or when bytes are left over behind it.
    fn from_frame(frame: &Frame) -> Result<Self, FrameError> {
        if frame.frame_type != Self::FRAME_TYPE {
            let expected = FrameType::KNOWN.iter().find(|(known, _)| *known == Self::FRAME_TYPE);
            let expected = expected.map_or("another frame", |(_, name)| name);
            return Err(FrameError::Unexpected { frame_type: frame.frame_type, expected });
        }
        let malformed = |detail: String| FrameError::Malformed { frame_type: Self::FRAME_TYPE, detail };
        let mut decoder = Decoder::new(&frame.payload);
        let message = decoder.decode().map_err(|error| malformed(error.to_string()))?;
        match frame.payload.len() - decoder.position() {
            0 => Ok(message),
            left => Err(malformed(format!("{left} bytes left over behind the payload"))),
        }
    }
}

macro_rules! messages {
    ($($message:ident = $frame_type:ident),* $(,)?) => {
        $(impl Message for $message { const FRAME_TYPE: FrameType = FrameType::$frame_type; })*

        /// Decodes a payload as the message of its type and encodes it again; for tests of all messages at once.
        #[doc(hidden)]
        pub fn reencode(frame: &Frame) -> Result<Frame, FrameError> {
            match frame.frame_type {
                $(FrameType::$frame_type => $message::from_frame(frame).map(|message| message.to_frame()),)*
                frame_type => Err(FrameError::Unsupported { frame_type }),
            }
        }
    };
}

messages! {
    Register = REGISTER, Challenge = CHALLENGE, Proof = PROOF, Registered = REGISTERED, Refused = REFUSED,
    Connect = CONNECT, Lookup = LOOKUP, Connected = CONNECTED, Waiting = WAITING, Found = FOUND,
    Incoming = INCOMING, Ping = PING, Pong = PONG, Goaway = GOAWAY, Bye = BYE,
    Status = STATUS, ExpiryWarning = EXPIRY_WARNING, Request = REQUEST, Response = RESPONSE,
    Forward = FORWARD, Ask = ASK, Packets = PACKETS, Packet = PACKET,
    Attach = ATTACH, Attached = ATTACHED, Ack = ACK, Reset = RESET, Notice = NOTICE,
}

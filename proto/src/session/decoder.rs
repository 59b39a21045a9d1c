//! A session's stream as pieces of data and whole control frames.

use crate::frame::{Frame, FrameError, FrameType, decode_header, missing_bytes};
use bytes::{Buf, Bytes, BytesMut};

/// Cuts chunks into [`Item`]s. Data passes through as slices of the chunks; only control frames that are spread over
/// chunks are gathered.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// A header or a control frame that is not all there yet.
    gathered: BytesMut,
    /// What is left of a `Data` frame.
    data_left: usize,
    /// What is left of a frame that is skipped.
    skip_left: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A piece of the peer's bytes, never empty. Where frames begin and end means nothing.
    Data(Bytes),
    /// Any other frame that this version knows, or one that it must not skip.
    Frame(Frame),
}

impl Decoder {
    /// Takes the next item off the front of `input`; `None` when it is used up.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Item>, FrameError> {
        loop {
            if self.data_left > 0 {
                let len = self.data_left.min(input.len());
                self.data_left -= len;
                return Ok((len > 0).then(|| Item::Data(input.split_to(len))));
            }
            let skipped = self.skip_left.min(input.len());
            self.skip_left -= skipped;
            input.advance(skipped);
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(item) = self.next_frame(input)? {
                return Ok(Some(Item::Frame(item)));
            }
        }
    }

    /// Takes bytes until a frame is whole or its kind is known to need no gathering.
    fn next_frame(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        if self.gathered.is_empty()
            && let Some((frame_type, payload_len, header_len)) = decode_header(input)?
        {
            if self.passes_through(frame_type, payload_len) {
                input.advance(header_len);
                return Ok(None);
            }
            if input.len() >= header_len + payload_len {
                input.advance(header_len);
                return Ok(Some(Frame { frame_type, payload: input.split_to(payload_len) }));
            }
        }
        let missing = missing_bytes(&self.gathered)?.min(input.len());
        self.gathered.extend_from_slice(&input.split_to(missing));
        if let Some((frame_type, payload_len, header_len)) = decode_header(&self.gathered)?
            && self.gathered.len() == header_len
            && self.passes_through(frame_type, payload_len)
        {
            self.gathered.clear();
            return Ok(None);
        }
        Frame::decode(&mut self.gathered)
    }

    /// Whether the payload is not gathered; if so, what follows is known to be it.
    fn passes_through(&mut self, frame_type: FrameType, payload_len: usize) -> bool {
        if frame_type == FrameType::DATA {
            self.data_left = payload_len;
            return true;
        }
        if !frame_type.is_known() && frame_type.may_be_skipped() {
            self.skip_left = payload_len;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint::VarInt;

    fn frame(frame_type: FrameType, payload: &[u8]) -> Bytes {
        Frame { frame_type, payload: Bytes::copy_from_slice(payload) }.to_bytes()
    }

    /// The data put together, and the types of the control frames, when the wire is cut every `step` bytes.
    fn decode(wire: &Bytes, step: usize) -> (Vec<u8>, Vec<FrameType>) {
        let (mut decoder, mut data, mut frames) = (Decoder::default(), Vec::new(), Vec::new());
        for start in (0..wire.len()).step_by(step) {
            let mut chunk = wire.slice(start..(start + step).min(wire.len()));
            while let Some(item) = decoder.next(&mut chunk).unwrap() {
                match item {
                    Item::Data(piece) => data.extend_from_slice(&piece),
                    Item::Frame(frame) => frames.push(frame.frame_type),
                }
            }
            assert!(chunk.is_empty());
        }
        (data, frames)
    }

    #[test]
    fn cuts_of_the_wire_make_no_difference() {
        let unknown_odd = FrameType(VarInt::from_u32(0x4001));
        let long = vec![9; 300];
        let wire: Vec<u8> = [
            frame(FrameType::DATA, b"one"),
            frame(FrameType::PING, b"\xa1\x00\x01"),
            frame(unknown_odd, &long),
            frame(FrameType::DATA, b""),
            frame(FrameType::DATA, &long),
            frame(FrameType::FIN, b""),
        ]
        .concat();
        let wire = Bytes::from(wire);
        let expected = ([&b"one"[..], &long].concat(), vec![FrameType::PING, FrameType::FIN]);
        for step in 1..=wire.len() {
            assert_eq!(decode(&wire, step), expected, "cut every {step} bytes");
        }
    }

    #[test]
    fn data_is_a_slice_of_the_chunk() {
        let mut chunk = frame(FrameType::DATA, b"abc");
        let (start, len) = (chunk.as_ptr(), chunk.len());
        let Some(Item::Data(piece)) = Decoder::default().next(&mut chunk).unwrap() else { panic!("no data") };
        assert_eq!(piece.as_ptr(), start.wrapping_add(len - 3));
    }

    #[test]
    fn even_frame_that_nobody_knows_is_handed_on_to_be_refused() {
        let unknown_even = FrameType(VarInt::from_u32(0x4000));
        let item = Decoder::default().next(&mut frame(unknown_even, b"x")).unwrap();
        assert!(matches!(item, Some(Item::Frame(frame)) if frame.frame_type == unknown_even));
    }
}

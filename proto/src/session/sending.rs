//! The sending direction of a session: what the peer has not acknowledged is kept.

use super::{FirstBytes, MAX_DATA_BYTES, WINDOW_BYTES};
use crate::{
    frame::{Frame, FrameType},
    varint::VarInt,
};
use bytes::{BufMut, Bytes, BytesMut, buf::Limit};
use std::collections::VecDeque;

/// Room for the header of a `Data` frame: one byte for the type, four at most for the length.
const HEADER_ROOM: usize = 5;
/// A buffer with less room than this gets a new allocation.
const SMALLEST_READ_BYTES: usize = 8 * 1024;

/// Bytes on their way into a `Data` frame. Room for the header is kept before them, so that header and bytes leave as
/// one piece without being copied.
#[derive(Debug, Default)]
pub struct DataBuffer {
    /// Empty, or [`HEADER_ROOM`] bytes and then the payload.
    bytes: BytesMut,
}

impl DataBuffer {
    /// How many bytes of payload there are.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER_ROOM)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to put more: at most `limit` bytes, and no more than a frame holds.
    pub fn spare(&mut self, limit: usize) -> Limit<&mut BytesMut> {
        if self.bytes.is_empty() {
            self.bytes.reserve(HEADER_ROOM + SMALLEST_READ_BYTES);
            self.bytes.put_bytes(0, HEADER_ROOM);
        }
        let room = MAX_DATA_BYTES - self.len();
        if self.bytes.capacity() - self.bytes.len() < room.min(SMALLEST_READ_BYTES) {
            self.bytes.reserve(room);
        }
        (&mut self.bytes).limit(room.min(limit))
    }

    /// Adds bytes. The caller has seen to it that they fit.
    fn put(&mut self, bytes: &[u8]) {
        // At once, and not as it fills: growing would copy again and again.
        self.bytes.reserve(HEADER_ROOM + bytes.len());
        self.spare(bytes.len()).put_slice(bytes);
    }

    /// The whole frame and the length of its header.
    fn seal(&mut self) -> (Bytes, usize) {
        let mut header = [0; HEADER_ROOM];
        let mut rest = &mut header[..];
        FrameType::DATA.0.encode(&mut rest);
        VarInt::from_u32(u32::try_from(self.len()).unwrap_or(u32::MAX)).encode(&mut rest);
        let header_len = HEADER_ROOM - rest.len();
        let mut frame = self.bytes.split();
        let unused = HEADER_ROOM - header_len;
        if let (Some(to), Some(from)) = (frame.get_mut(unused..HEADER_ROOM), header.get(..header_len)) {
            to.copy_from_slice(from);
        }
        (frame.split_off(unused).freeze(), header_len)
    }
}

/// A `Data` frame that the peer may not have.
#[derive(Debug)]
struct Chunk {
    /// The offset of its first byte of payload.
    start: u64,
    frame: Bytes,
    header_len: usize,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + (self.frame.len() - self.header_len) as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// More may come.
    Open,
    /// Nothing more comes; not said on this stream.
    Due,
    /// Said on this stream.
    Sent,
}

#[derive(Debug)]
pub(super) struct Sending {
    /// Everything that is not acknowledged and has left [`tail`](Self::tail), in order. Bounded by the window.
    chunks: VecDeque<Chunk>,
    /// How many of the chunks have been sent on this stream.
    sent_chunks: usize,
    /// What the application wrote last.
    tail: DataBuffer,
    /// The offset behind everything the application wrote.
    end: u64,
    /// The offset up to which anything was ever sent, on this stream or an earlier one.
    sent: u64,
    /// The offset up to which the peer has everything.
    acked: u64,
    /// The offset up to which the peer lets us send.
    limit: u64,
    fin: Fin,
}

/// The peer claims to have received something that was not sent, or forgets what it had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongOffset {
    pub(super) received: u64,
    pub(super) acked: u64,
    pub(super) sent: u64,
}

impl Sending {
    /// The client's, which has something to send along with its first attach.
    pub(super) fn with_first() -> Self {
        Self { limit: FirstBytes::MAX_BYTES as u64, ..Self::new() }
    }

    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            sent_chunks: 0,
            tail: DataBuffer::default(),
            end: 0,
            sent: 0,
            acked: 0,
            limit: 0,
            fin: Fin::Open,
        }
    }

    /// How many bytes the application may write now.
    pub(super) fn room(&self) -> usize {
        let kept = WINDOW_BYTES.saturating_sub(self.end - self.acked);
        usize::try_from(kept.min(self.limit.saturating_sub(self.end))).unwrap_or(usize::MAX)
    }

    /// Takes as much of `bytes` as there is room for, copying it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let accepted = bytes.len().min(self.room());
        let mut left = bytes.get(..accepted).unwrap_or_default();
        while !left.is_empty() {
            let len = left.len().min(MAX_DATA_BYTES - self.tail.len());
            let (now, later) = left.split_at(len);
            self.tail.put(now);
            left = later;
            self.end += len as u64;
            if self.tail.len() == MAX_DATA_BYTES {
                self.seal_tail();
            }
        }
        accepted
    }

    /// Takes all of a buffer, without copying, and leaves it empty. The caller has asked for [`room`](Self::room).
    pub(super) fn push(&mut self, buffer: &mut DataBuffer) {
        if buffer.is_empty() {
            return;
        }
        self.seal_tail();
        std::mem::swap(&mut self.tail, buffer);
        self.end += self.tail.len() as u64;
        self.seal_tail();
        // The allocation goes on being filled by its owner.
        std::mem::swap(&mut self.tail, buffer);
    }

    pub(super) fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Due;
        }
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.fin != Fin::Open
    }

    /// Whether the peer has everything and the end of it.
    pub(super) fn is_done(&self) -> bool {
        self.is_finishing() && self.acked > self.end
    }

    /// Whether the peer owes an acknowledgement.
    pub(super) fn is_unacked(&self) -> bool {
        self.sent > self.acked
    }

    /// Drops everything that was not sent; for a session that is reset.
    pub(super) fn clear(&mut self) {
        *self = Self { fin: Fin::Sent, ..Self::new() };
    }

    fn seal_tail(&mut self) {
        let len = self.tail.len();
        if len > 0 {
            let (frame, header_len) = self.tail.seal();
            self.chunks.push_back(Chunk { start: self.end - len as u64, frame, header_len });
        }
    }

    /// Whether [`poll`](Self::poll) has something.
    pub(super) fn is_ready(&self) -> bool {
        self.sent_chunks < self.chunks.len() || !self.tail.is_empty() || self.fin == Fin::Due
    }

    /// The next frame for this stream.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        if self.sent_chunks == self.chunks.len() {
            self.seal_tail();
        }
        if let Some(chunk) = self.chunks.get(self.sent_chunks) {
            if chunk.end() > self.limit {
                return None;
            }
            self.sent = self.sent.max(chunk.end());
            let frame = chunk.frame.clone();
            self.sent_chunks += 1;
            self.drop_acked();
            return Some(frame);
        }
        if self.fin == Fin::Due {
            self.fin = Fin::Sent;
            self.sent = self.end + 1;
            return Some(Frame { frame_type: FrameType::FIN, payload: Bytes::new() }.to_bytes());
        }
        None
    }

    /// Everything that was written before there was a limit; it counts as sent.
    pub(super) fn first(&mut self) -> Vec<u8> {
        self.seal_tail();
        self.sent = self.sent.max(self.end);
        let payloads = self.chunks.iter().filter_map(|chunk| chunk.frame.get(chunk.header_len..));
        payloads.flatten().copied().collect()
    }

    /// The peer has everything up to `received` and lets us send up to `limit`. Older news than we have is ignored.
    pub(super) fn handle_ack(&mut self, received: u64, limit: u64) -> Result<(), WrongOffset> {
        if received > self.sent {
            return Err(self.wrong(received));
        }
        self.limit = self.limit.max(limit);
        if received <= self.acked {
            return Ok(());
        }
        self.acked = received;
        self.drop_acked();
        Ok(())
    }

    /// What the peer has on an earlier stream and still waits for on this one is sent before it is dropped, because
    /// offsets are counted, not written.
    fn drop_acked(&mut self) {
        while self.sent_chunks > 0 && self.chunks.front().is_some_and(|chunk| chunk.end() <= self.acked) {
            self.chunks.pop_front();
            self.sent_chunks -= 1;
        }
    }

    /// A new stream, whose receiver has everything up to `received`. Returns the offset from which it is sent, which
    /// is more when the receiver has acknowledged more.
    pub(super) fn restart(&mut self, received: u64, limit: u64) -> Result<u64, WrongOffset> {
        self.handle_ack(received, limit)?;
        // Everything counts as sent, so that what is acknowledged goes.
        self.sent_chunks = self.chunks.len();
        self.drop_acked();
        self.sent_chunks = 0;
        let start = self.acked;
        if let Some(chunk) = self.chunks.front_mut()
            && chunk.start < start
        {
            let had = usize::try_from(start - chunk.start).unwrap_or(usize::MAX);
            let payload = chunk.frame.slice(chunk.frame.len().min(chunk.header_len + had)..);
            let frame = Frame { frame_type: FrameType::DATA, payload: payload.clone() }.to_bytes();
            *chunk = Chunk { start, header_len: frame.len() - payload.len(), frame };
        }
        if self.fin != Fin::Open {
            self.fin = if self.is_done() { Fin::Sent } else { Fin::Due };
        }
        Ok(start)
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn wrong(&self, received: u64) -> WrongOffset {
        WrongOffset { received, acked: self.acked, sent: self.sent }
    }
}

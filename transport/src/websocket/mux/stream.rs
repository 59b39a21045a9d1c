//! One stream of a multiplexed link, as two halves.
//!
//! yamux alone cannot say all that a stream says: its `RST` looks like its `FIN` to a reader and has no room for a
//! code, and after a `FIN` nothing can stop a peer that goes on sending. So a stream's bytes are records, whose
//! headers are four bytes: the kind, then a number of 24 bits (data: how many bytes follow; reset: the code). The
//! `FIN` flag is not used; a stream that is dropped is reset by the multiplexer, behind everything that was sent.

use super::Shared;
use crate::{
    chunk::MAX_CHUNK_BYTES,
    close::{LinkError, StreamError},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use converge_proto::rendezvous::RefusalCode;
use futures_util::StreamExt;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// The kind, and 24 bits.
const HEADER_BYTES: usize = 4;
/// Data of one record; more is several.
const MAX_RECORD_BYTES: usize = MAX_CHUNK_BYTES - HEADER_BYTES;
/// The largest number in a header.
const MAX_NUMBER: u32 = (1 << 24) - 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    /// This many bytes follow.
    Data(u32),
    /// The direction is finished.
    End,
    /// The direction is given up.
    Reset(RefusalCode),
}

impl Header {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let (kind, number) = match self {
            Self::Data(len) => (0u32, len),
            Self::End => (1, 0),
            Self::Reset(code) => (2, code.0),
        };
        (kind << 24 | number.min(MAX_NUMBER)).to_be_bytes()
    }

    /// `None` for a kind that nobody here knows.
    fn decode(header: u32) -> Option<Self> {
        let number = header & MAX_NUMBER;
        match header >> 24 {
            0 => Some(Self::Data(number)),
            1 => Some(Self::End),
            2 => Some(Self::Reset(RefusalCode(number))),
            _ => None,
        }
    }
}

/// Both directions of a multiplexed stream. `link` says when and why the link has ended.
pub(crate) fn split(stream: yamux::Stream, link: watch::Receiver<Option<LinkError>>) -> (MuxRecv, MuxSend) {
    let stream = Shared::new(stream.compat());
    let recv = MuxRecv {
        stream: stream.clone(),
        link,
        received: Bytes::new(),
        header: 0,
        header_bytes: 0,
        data_left: 0,
        ended: false,
    };
    (recv, MuxSend { stream, record: BytesMut::new(), sealed: false, finished: false })
}

/// The stream of both halves.
type SharedStream = Shared<Compat<yamux::Stream>>;

impl SharedStream {
    /// What was received, without copying it.
    fn poll_packet(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<yamux::Packet>>> {
        self.lock().get_mut().poll_next_unpin(cx)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, bytes)
    }
}

/// The receiving direction of a multiplexed stream.
#[derive(Debug)]
pub(crate) struct MuxRecv {
    stream: SharedStream,
    link: watch::Receiver<Option<LinkError>>,
    /// Bytes of records, not yet taken: the rest of one frame of the multiplexer.
    received: Bytes,
    /// What has come of the next record's header, and how much that is.
    header: u32,
    header_bytes: usize,
    /// How many bytes the record at the front has still to give.
    data_left: usize,
    ended: bool,
}

impl MuxRecv {
    pub(crate) async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        match std::future::poll_fn(|cx| self.poll_data(cx)).await? {
            0 => Ok(None),
            len => Ok(Some(self.take(len))),
        }
    }

    /// How many bytes of data are at the front of `received`; 0 at the end of the direction.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        while !self.ended {
            if self.received.is_empty() {
                match ready!(self.stream.poll_packet(cx)) {
                    Some(Ok(packet)) => self.received = Bytes::from_owner(packet),
                    Some(Err(error)) => return Poll::Ready(Err(StreamError::broken(&error))),
                    None => return Poll::Ready(Err(self.cut())),
                }
            } else if self.data_left > 0 {
                return Poll::Ready(Ok(self.data_left.min(self.received.len())));
            } else {
                self.take_header_byte()?;
            }
        }
        Poll::Ready(Ok(0))
    }

    /// A frame of the multiplexer may end anywhere, and so within a header.
    fn take_header_byte(&mut self) -> Result<(), StreamError> {
        self.header = self.header << 8 | u32::from(self.received.get_u8());
        self.header_bytes += 1;
        if self.header_bytes == HEADER_BYTES {
            self.header_bytes = 0;
            match Header::decode(self.header) {
                Some(Header::Data(len)) => self.data_left = len as usize,
                Some(Header::End) => self.ended = true,
                Some(Header::Reset(code)) => return Err(StreamError::Reset(code)),
                None => return Err(StreamError::broken(&"not a record of a stream")),
            }
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.data_left -= len;
        self.received.split_to(len)
    }

    /// The stream is over and nobody finished it: the link has ended, or the peer has dropped it.
    fn cut(&self) -> StreamError {
        let link_error = self.link.borrow().clone();
        link_error.map_or(StreamError::Reset(RefusalCode::AGENT_LOST), StreamError::Link)
    }
}

impl AsyncRead for MuxRecv {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let len = ready!(this.poll_data(cx))?.min(into.remaining());
        into.put_slice(&this.take(len));
        Poll::Ready(Ok(()))
    }
}

/// The sending direction of a multiplexed stream.
#[derive(Debug)]
pub(crate) struct MuxSend {
    stream: SharedStream,
    /// A record, or what is left of it. Small chunks are gathered in it until it is sealed.
    record: BytesMut,
    /// Whether the record is complete and on its way.
    sealed: bool,
    /// Whether the last record has been made.
    finished: bool,
}

impl MuxSend {
    pub(crate) async fn write_chunk(&mut self, mut chunk: &[u8]) -> Result<(), StreamError> {
        while !chunk.is_empty() {
            if self.room() < chunk.len().min(MAX_RECORD_BYTES) {
                self.flush().await?;
            }
            let (now, later) = chunk.split_at(chunk.len().min(self.room()));
            self.gather(now);
            chunk = later;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await.map_err(not_wanted)
    }

    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_end(cx, Header::End)).await.map_err(not_wanted)
    }

    /// Gives the direction up. What has been gathered is not sent any more.
    pub(crate) async fn reset(&mut self, code: RefusalCode) -> Result<(), StreamError> {
        if !self.sealed {
            self.record.clear();
        }
        std::future::poll_fn(|cx| self.poll_end(cx, Header::Reset(code))).await.map_err(not_wanted)
    }

    /// How much more fits into the record.
    fn room(&self) -> usize {
        if self.sealed { 0 } else { MAX_CHUNK_BYTES - self.record.len().max(HEADER_BYTES) }
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.record.is_empty() {
            self.record.put_slice(&Header::Data(0).encode());
        }
        self.record.put_slice(bytes);
    }

    /// Sends what is left, then the last record.
    fn poll_end(&mut self, cx: &mut Context<'_>, last: Header) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.finished {
            self.record.put_slice(&last.encode());
            (self.sealed, self.finished) = (true, true);
        }
        self.poll_send(cx)
    }

    /// Seals the record and sends it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.sealed {
            let Some(len) = self.record.len().checked_sub(HEADER_BYTES) else { return Poll::Ready(Ok(())) };
            let header = Header::Data(u32::try_from(len).unwrap_or(MAX_NUMBER));
            self.record.iter_mut().zip(header.encode()).for_each(|(byte, of_header)| *byte = of_header);
            self.sealed = true;
        }
        while !self.record.is_empty() {
            let sent = ready!(self.stream.poll_write(cx, &self.record))?;
            self.record.advance(sent);
        }
        self.sealed = false;
        Poll::Ready(Ok(()))
    }
}

/// A stream takes no bytes when its peer has dropped it, or when the link is gone, which the link itself reports.
#[expect(clippy::needless_pass_by_value)] // The shape that `map_err` wants.
fn not_wanted(error: io::Error) -> StreamError {
    tracing::trace!(%error, "the multiplexed stream takes no more bytes");
    StreamError::Reset(RefusalCode::AGENT_LOST)
}

impl AsyncWrite for MuxSend {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // What was written before goes first, so that at most one record waits here.
        ready!(this.poll_send(cx))?;
        let bytes = bytes.get(..bytes.len().min(MAX_RECORD_BYTES)).unwrap_or_default();
        this.gather(bytes);
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_end(cx, Header::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::AsyncWriteExt;
    use std::future::poll_fn;
    use tokio::{io::DuplexStream, sync::mpsc};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    #[test]
    fn headers_are_four_bytes_and_unknown_kinds_are_noticed() {
        let known = [
            (Header::Data(65_532), [0, 0, 0xff, 0xfc]),
            (Header::End, [1, 0, 0, 0]),
            (Header::Reset(RefusalCode::LIMIT), [2, 0, 0, 5]),
        ];
        for (header, bytes) in known {
            assert_eq!(header.encode(), bytes);
            assert_eq!(Header::decode(u32::from_be_bytes(bytes)), Some(header));
        }
        assert_eq!(Header::decode(3 << 24), None);
    }

    type End = yamux::Connection<Compat<DuplexStream>>;

    /// Moves the bytes of one end, and gives out the streams that the other opens.
    fn drive(mut end: End) -> mpsc::UnboundedReceiver<yamux::Stream> {
        let (accepted, streams) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(stream)) = poll_fn(|cx| end.poll_next_inbound(cx)).await {
                accepted.send(stream).unwrap();
            }
        });
        streams
    }

    #[tokio::test]
    async fn records_may_be_cut_anywhere_by_frames_of_the_multiplexer() {
        let records: Vec<u8> = [
            &Header::Data(3).encode()[..],
            b"abc",
            &Header::Data(0).encode(),
            &Header::Data(2).encode(),
            b"de",
            &Header::End.encode(),
        ]
        .concat();
        for cut in 1..=records.len() {
            let (near, far) = tokio::io::duplex(1024);
            let mut near = End::new(near.compat(), yamux::Config::default(), yamux::Mode::Client);
            let mut sending = poll_fn(|cx| near.poll_new_outbound(cx)).await.unwrap();
            let _near = drive(near);
            let mut streams = drive(End::new(far.compat(), yamux::Config::default(), yamux::Mode::Server));
            // Each write is a frame.
            for frame in records.chunks(cut) {
                sending.write_all(frame).await.unwrap();
                sending.flush().await.unwrap();
            }
            let (_ended, link) = watch::channel(None);
            let (mut recv, _send) = split(streams.recv().await.unwrap(), link);
            let mut received = Vec::new();
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                assert!(!chunk.is_empty());
                received.extend_from_slice(&chunk);
            }
            assert_eq!(received, b"abcde", "frames of {cut} bytes");
        }
    }
}

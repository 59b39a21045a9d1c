//! Packets from a byte stream: `uint32 length · length bytes`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{SftpError, wire::MAX_PACKET_BYTES};

const PREFIX_BYTES: usize = 4;

/// Room for one whole packet, so that a stream of the largest ones is read without moving what has arrived.
const BLOCK_BYTES: usize = MAX_PACKET_BYTES as usize + PREFIX_BYTES;

/// From this length on, reading stops at the packet's end: the next one then starts in a block of its own.
const LONG_PACKET_BYTES: usize = 64 * 1024;

/// Cuts a byte stream into packets; a packet is a part of the block it was read into, never a copy.
///
/// A length beyond [`MAX_PACKET_BYTES`] is refused before anything is allocated for it.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// The next packet without its length prefix, or `None` where the stream ends between two packets.
    ///
    /// Cancel-safe: what has arrived of a packet stays for the next call.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SftpError> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                let mut packet = self.buffer.split_to(self.packet_bytes().unwrap_or(0));
                packet.advance(PREFIX_BYTES);
                return Ok(Some(packet.freeze()));
            }
            self.make_room(missing);
            let read = if missing >= LONG_PACKET_BYTES {
                self.reader.read_buf(&mut (&mut self.buffer).limit(missing)).await
            } else {
                self.reader.read_buf(&mut self.buffer).await
            };
            if read.map_err(SftpError::Read)? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(SftpError::EndInPacket { missing })
                };
            }
        }
    }

    /// How many bytes must arrive before something can be said: the rest of the prefix, or of the packet.
    fn missing(&self) -> Result<usize, SftpError> {
        let Some(total) = self.packet_bytes() else { return Ok(PREFIX_BYTES - self.buffer.len()) };
        if total == PREFIX_BYTES || total > BLOCK_BYTES {
            return Err(SftpError::PacketLength { got: total - PREFIX_BYTES, allowed: MAX_PACKET_BYTES });
        }
        Ok(total.saturating_sub(self.buffer.len()))
    }

    /// The length of the packet at the front with its prefix, if that is there.
    fn packet_bytes(&self) -> Option<usize> {
        let prefix = self.buffer.first_chunk::<PREFIX_BYTES>()?;
        Some((u32::from_be_bytes(*prefix) as usize).saturating_add(PREFIX_BYTES))
    }

    fn make_room(&mut self, missing: usize) {
        let room = self.buffer.capacity() - self.buffer.len();
        if self.buffer.is_empty() && room < BLOCK_BYTES / 2 {
            // A fresh block costs no copy now, a small rest of the old one would soon.
            self.buffer = BytesMut::with_capacity(BLOCK_BYTES);
        } else if room < missing {
            self.buffer.reserve(BLOCK_BYTES.saturating_sub(self.buffer.len()).max(missing));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.put_u32(u32::try_from(body.len()).unwrap());
        packet.extend_from_slice(body);
        packet
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// A reader that hands out its content in pieces of the given length.
    struct Pieces {
        content: Bytes,
        piece_bytes: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let length = self.piece_bytes.min(self.content.len()).min(buffer.remaining());
            buffer.put_slice(&self.content.split_to(length));
            Poll::Ready(Ok(()))
        }
    }

    async fn all(mut frames: Frames<impl AsyncRead + Unpin>) -> (Vec<Bytes>, Option<SftpError>) {
        let mut packets = Vec::new();
        loop {
            match frames.next().await {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return (packets, None),
                Err(error) => return (packets, Some(error)),
            }
        }
    }

    #[test]
    fn the_longest_packet_is_taken_and_one_byte_more_is_not() {
        block_on(async {
            let longest = vec![7; MAX_PACKET_BYTES as usize];
            let (packets, error) = all(Frames::new(packet(&longest).as_slice())).await;
            assert_eq!((packets, error.is_none()), (vec![Bytes::from(longest)], true));

            let refused = (MAX_PACKET_BYTES + 1).to_be_bytes();
            let (packets, error) = all(Frames::new(refused.as_slice())).await;
            assert!(packets.is_empty());
            let Some(SftpError::PacketLength { got, allowed }) = error else { panic!("{error:?}") };
            assert_eq!((got, allowed), (MAX_PACKET_BYTES as usize + 1, MAX_PACKET_BYTES));
        });
    }

    #[test]
    fn a_packet_of_no_bytes_is_refused() {
        let (_, error) = block_on(all(Frames::new([0_u8; 4].as_slice())));
        assert!(matches!(error, Some(SftpError::PacketLength { got: 0, .. })), "{error:?}");
    }

    #[test]
    fn an_end_inside_a_packet_is_an_error() {
        for content in [&b"\0\0"[..], b"\0\0\0\x05ab"] {
            let (_, error) = block_on(all(Frames::new(content)));
            assert!(matches!(error, Some(SftpError::EndInPacket { missing: 2 | 3 })), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_make_the_same_packets(
            lengths in proptest::collection::vec(
                prop_oneof![1_usize..200, 32_000_usize..34_000, 261_000_usize..=262_144], 1..12),
            piece_bytes in prop_oneof![1_usize..64, 1000_usize..300_000],
        ) {
            let bodies: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(index, length)| vec![index.to_le_bytes()[0]; *length]).collect();
            let stream: Vec<u8> = bodies.iter().flat_map(|body| packet(body)).collect();
            // A megabyte byte by byte proves no more than the first few thousand do.
            let piece_bytes = piece_bytes.max(stream.len() / 4096);
            let (packets, error) = block_on(all(Frames::new(Pieces { content: stream.into(), piece_bytes })));
            prop_assert!(error.is_none());
            prop_assert!(packets.iter().eq(bodies.iter()));
        }
    }
}

//! Pieces in which bytes are moved.

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

/// The largest chunk that is read, and the largest message that is sent, in bytes.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks are moved at once. QUIC hands out one for each packet, and sends what it gets at once: as many segments as one
/// call to the kernel takes, if it gets as many.
pub(crate) const MAX_CHUNKS: usize = 32;
/// Chunks smaller than this, on average, are gathered, in bytes: those of packets for a path of 1500 bytes.
const SMALL_CHUNK_BYTES: usize = 4096;

/// Puts as much of `from` into a read buffer as fits.
pub(crate) fn put_some(from: &mut Bytes, into: &mut ReadBuf<'_>) {
    let len = from.len().min(into.remaining());
    into.put_slice(from.get(..len).unwrap_or_default());
    from.advance(len);
}

/// One chunk with the bytes of several small ones, which are then empty. For each packet quinn looks through all chunks that are
/// not yet acknowledged: of chunks as small as packets there are so many that it costs more than this copy.
pub(crate) fn gather(chunks: &mut [Bytes]) -> Option<Bytes> {
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    if chunks.len() < 2 || bytes >= chunks.len() * SMALL_CHUNK_BYTES {
        return None;
    }
    let gathered = chunks.concat().into();
    chunks.fill(Bytes::new());
    Some(gathered)
}

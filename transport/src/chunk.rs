//! Pieces in which bytes are moved.

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

/// The largest chunk that is read, and the largest message that is sent, in bytes.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Puts as much of `from` into a read buffer as fits.
pub(crate) fn put_some(from: &mut Bytes, into: &mut ReadBuf<'_>) {
    let len = from.len().min(into.remaining());
    into.put_slice(from.get(..len).unwrap_or_default());
    from.advance(len);
}

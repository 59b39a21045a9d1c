//! Bytes in pieces, to be written with one call.

use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice};

/// Pieces as one buffer. A packet's worth of bytes is far less than a call to the system can take, and calls are what
/// writing costs.
#[derive(Debug, Default)]
pub struct Pieces {
    /// None of them empty.
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Pieces {
    /// As many as one call takes in tokio.
    pub(super) const MAX: usize = 64;

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    /// # Panics
    /// As [`Buf::advance`] says: when there are fewer bytes than that.
    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced beyond the end");
        self.remaining -= count;
        while count > 0
            && let Some(first) = self.pieces.front_mut()
        {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_buffer() {
        let mut pieces = Pieces::default();
        for piece in ["ab", "", "cde", "f"] {
            pieces.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!((pieces.remaining(), pieces.len()), (6, 3));
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(pieces.chunks_vectored(&mut slices), 2);
        assert_eq!(&*slices[1], b"cde");
        pieces.advance(3);
        assert_eq!(pieces.chunk(), b"de");
        pieces.advance(3);
        assert!(!pieces.has_remaining() && pieces.chunk().is_empty());
    }
}

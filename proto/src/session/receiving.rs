//! The receiving direction of a session: what has arrived and waits for the application.

use super::WINDOW_BYTES;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Received so much since the last `Ack`, another is due at once, so that the peer need not keep it.
const ACK_AFTER_BYTES: u64 = 512 * 1024;
/// Consumed so much since the last `Ack`, another is due at once, so that the peer need not stop.
const CREDIT_AFTER_BYTES: u64 = WINDOW_BYTES / 4;
/// Pieces beyond this are put together, so that tiny frames cost no more memory than large ones.
const MAX_PIECES: usize = 4096;

#[derive(Debug)]
pub(super) struct Receiving {
    /// Arrived and not consumed. Bounded by the window.
    pieces: VecDeque<Bytes>,
    /// The offset of the next byte on the stream; behind [`received`](Self::received) while the peer repeats what is
    /// known already.
    wire: u64,
    /// The offset up to which everything has arrived; the end counts as one byte.
    received: u64,
    consumed: u64,
    has_fin: bool,
    /// Nobody reads any more: what arrives counts as consumed.
    discards: bool,
    told_received: u64,
    told_limit: u64,
}

/// The peer broke a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    BeyondLimit,
    BehindFin,
}

impl Receiving {
    pub(super) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            wire: 0,
            received: 0,
            consumed: 0,
            has_fin: false,
            discards: false,
            told_received: 0,
            told_limit: WINDOW_BYTES,
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The offset up to which the peer may send.
    pub(super) fn limit(&self) -> u64 {
        self.consumed + WINDOW_BYTES
    }

    pub(super) fn has_fin(&self) -> bool {
        self.has_fin
    }

    /// Whether the application has everything up to the end.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_fin && self.pieces.is_empty()
    }

    /// How many bytes wait for the application.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.received - self.consumed - u64::from(self.has_fin)
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// A new stream, on which the peer sends from `offset`, which is not beyond what was received.
    pub(super) fn restart(&mut self, offset: u64) {
        self.wire = offset;
    }

    pub(super) fn handle_data(&mut self, piece: &Bytes) -> Result<(), Violation> {
        let end = self.wire + piece.len() as u64;
        if end > self.told_limit.max(self.limit()) {
            return Err(Violation::BeyondLimit);
        }
        self.wire = end;
        let new = usize::try_from(end.saturating_sub(self.received)).unwrap_or(usize::MAX).min(piece.len());
        if new == 0 {
            return Ok(());
        }
        if self.has_fin {
            return Err(Violation::BehindFin);
        }
        self.received = end;
        if self.discards {
            self.consumed = end;
            return Ok(());
        }
        if self.pieces.len() >= MAX_PIECES {
            let mut all = BytesMut::new();
            self.pieces.drain(..).for_each(|piece| all.extend_from_slice(&piece));
            self.pieces.push_back(all.freeze());
        }
        self.pieces.push_back(piece.slice(piece.len() - new..));
        Ok(())
    }

    pub(super) fn handle_fin(&mut self) -> Result<(), Violation> {
        self.wire += 1;
        match (self.wire > self.received, self.has_fin) {
            (true, true) => Err(Violation::BehindFin),
            (true, false) => {
                self.received = self.wire;
                self.has_fin = true;
                Ok(())
            }
            (false, _) => Ok(()),
        }
    }

    /// The next piece for the application.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.consumed += piece.len() as u64;
        Some(piece)
    }

    /// At most `max` bytes of it.
    pub(super) fn read_some(&mut self, max: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        if first.len() <= max {
            return self.read();
        }
        self.consumed += max as u64;
        Some(first.split_to(max))
    }

    /// The application reads no more: everything is as good as consumed.
    pub(super) fn discard(&mut self) {
        self.discards = true;
        while self.read().is_some() {}
    }

    /// Whether the peer should hear of what arrived and was consumed, now or a little later.
    pub(super) fn ack_due(&self) -> AckDue {
        let at_once = self.received - self.told_received >= ACK_AFTER_BYTES
            // Behind its end the peer needs no more room, and a session that is over stays so while the rest is read.
            || (!self.has_fin && self.limit() - self.told_limit >= CREDIT_AFTER_BYTES)
            || (self.has_fin && self.told_received < self.received);
        match (at_once, self.told_received < self.received) {
            (true, _) => AckDue::Now,
            (false, true) => AckDue::Soon,
            (false, false) => AckDue::Not,
        }
    }

    /// The numbers of an `Ack` that is sent now: received, limit.
    pub(super) fn ack(&mut self) -> (u64, u64) {
        self.told_received = self.received;
        self.told_limit = self.limit();
        (self.told_received, self.told_limit)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckDue {
    Now,
    Soon,
    Not,
}

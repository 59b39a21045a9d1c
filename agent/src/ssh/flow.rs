//! Flow control: what clients send is queued per channel, and the SSH window follows what is queued.
//!
//! The SSH library runs one task per connection and re-opens a channel's window when data *arrives*. Two obvious
//! ways of using it hang real clients:
//!
//! - Waiting for a channel's consumer in that task (the library's own bounded queue does) lets one stalled channel
//!   stop the whole connection: other channels, window adjustments, even the consumer's own output.
//! - Reading and writing one channel from one task (`into_stream()`) stops for ever once both directions are full:
//!   `ssh host cat < 5MB`, or `sftp -R 256 get`.
//!
//! The cure: [`InputSender::push`] never waits, so the connection's task always goes on. In return [`Backlog`] counts
//! what all channels of the connection have queued, and [`Backlog::window`] is handed out as the next window. A client
//! that keeps to its windows can therefore queue at most [`WINDOW_BYTES`] per channel that it stalls, plus twice
//! [`WINDOW_BYTES`] for the connection; one that does not is disconnected at [`MAX_QUEUED_BYTES`].
//!
//! Known limit: the library has one window target per connection, not per channel. While stalled channels hold the
//! whole of [`WINDOW_BYTES`], uploads in *other* channels slow down once they have used their own first
//! [`WINDOW_BYTES`]. Downloads, typing and short uploads are not affected.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Window of a channel: 80 MB/s at a round trip of 100 ms.
pub(super) const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// What one channel may have queued before the client is disconnected for ignoring its window.
///
/// A client that keeps to its windows reaches about 16 MiB, and after that 2 bytes per [`TRICKLE_DELAY`] at most:
/// not this limit within six hours, the longest a job lives by default.
pub(super) const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Smallest window the library can be given without never opening it again.
const SMALLEST_WINDOW_BYTES: u32 = 2;

/// How long a packet that used up a [`SMALLEST_WINDOW_BYTES`] window delays the connection.
///
/// Without it client and agent would exchange such packets as fast as both can, for as long as a channel stalls.
pub(super) const TRICKLE_DELAY: Duration = Duration::from_millis(1);

/// Queued chunks are filled up to this size, so that many small packets cost no more memory than their bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of one connection that have arrived and were not yet taken by a consumer.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queued_bytes: AtomicUsize,
}

impl Backlog {
    /// The window to hand out next.
    pub(super) fn window(&self) -> u32 {
        let queued = u32::try_from(self.queued_bytes.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        WINDOW_BYTES.saturating_sub(queued).max(SMALLEST_WINDOW_BYTES)
    }

    /// Whether a packet of this length is one of those that [`TRICKLE_DELAY`] is for.
    pub(super) fn is_trickle(&self, length: usize) -> bool {
        length <= SMALLEST_WINDOW_BYTES as usize && self.window() == SMALLEST_WINDOW_BYTES
    }
}

/// A channel's queue: the connection's task pushes, one consumer takes.
pub(super) fn input(backlog: Arc<Backlog>) -> (InputSender, InputReader) {
    let queue = Arc::new(Queue { state: Mutex::new(State::default()), backlog });
    (InputSender { queue: Arc::clone(&queue) }, InputReader { queue, current: Bytes::new() })
}

/// More was sent than any window allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InputOverflow;

/// The connection's end of a channel's queue. Dropping it ends the input.
#[derive(Debug)]
pub(super) struct InputSender {
    queue: Arc<Queue>,
}

impl InputSender {
    /// Queues a copy of `data`; discards it when nobody reads the channel any more.
    pub(super) fn push(&self, data: &[u8]) -> Result<(), InputOverflow> {
        let mut state = self.queue.lock();
        if state.discards || state.ended {
            return Ok(());
        }
        if state.bytes + data.len() > MAX_QUEUED_BYTES {
            return Err(InputOverflow);
        }
        state.append(data);
        self.queue.backlog.queued_bytes.fetch_add(data.len(), Ordering::Relaxed);
        state.wake();
        Ok(())
    }

    /// Marks the end of the input: the reader gets what is queued, then the end.
    pub(super) fn end(&self) {
        let mut state = self.queue.lock();
        state.ended = true;
        state.wake();
    }
}

impl Drop for InputSender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The consumer's end of a channel's queue. Dropping it discards what is queued and what still comes.
#[derive(Debug)]
pub(super) struct InputReader {
    queue: Arc<Queue>,
    current: Bytes,
}

impl InputReader {
    /// The next chunk, or `None` at the end of the input. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.current.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut self.current)));
        }
        let mut state = self.queue.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            state.bytes -= chunk.len();
            self.queue.backlog.queued_bytes.fetch_sub(chunk.len(), Ordering::Relaxed);
            return Poll::Ready(Some(chunk.freeze()));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for InputReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match std::task::ready!(self.poll_next(context)) {
            Some(mut chunk) => {
                let length = chunk.len().min(buffer.remaining());
                buffer.put_slice(&chunk.split_to(length));
                self.current = chunk;
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for InputReader {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.discards = true;
        state.chunks.clear();
        self.queue.backlog.queued_bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        state.bytes = 0;
    }
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    backlog: Arc<Backlog>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock between changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<BytesMut>,
    /// Sum of the lengths of `chunks`; at most [`MAX_QUEUED_BYTES`].
    bytes: usize,
    ended: bool,
    discards: bool,
    waker: Option<Waker>,
}

impl State {
    fn append(&mut self, data: &[u8]) {
        self.bytes += data.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + data.len() <= CHUNK_BYTES => last.extend_from_slice(data),
            // A queue forms: the next packets will want to go into the same chunk.
            Some(_) => {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.max(data.len()));
                chunk.extend_from_slice(data);
                self.chunks.push_back(chunk);
            }
            None => self.chunks.push_back(BytesMut::from(data)),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn the_window_is_what_is_not_queued_and_never_closes_for_good() {
        let backlog = Arc::new(Backlog::default());
        let (sender, mut reader) = input(Arc::clone(&backlog));
        assert_eq!(backlog.window(), WINDOW_BYTES);
        sender.push(&[0; 1000]).expect("there is room");
        assert_eq!(backlog.window(), WINDOW_BYTES - 1000);
        sender.push(&vec![0; WINDOW_BYTES as usize]).expect("there is room");
        assert_eq!(backlog.window(), 2);
        assert!(backlog.is_trickle(2) && !backlog.is_trickle(3));

        let mut context = Context::from_waker(Waker::noop());
        while reader.poll_next(&mut context).is_ready() {}
        assert_eq!(backlog.window(), WINDOW_BYTES);
    }

    #[test]
    fn queues_of_one_connection_share_the_backlog_and_a_dropped_reader_gives_its_part_back() {
        let backlog = Arc::new(Backlog::default());
        let (first, first_reader) = input(Arc::clone(&backlog));
        let (second, _second_reader) = input(Arc::clone(&backlog));
        first.push(&[0; 10]).expect("there is room");
        second.push(&[0; 20]).expect("there is room");
        assert_eq!(backlog.window(), WINDOW_BYTES - 30);
        drop(first_reader);
        first.push(&[0; 10]).expect("discarded");
        assert_eq!(backlog.window(), WINDOW_BYTES - 20);
    }

    #[test]
    fn the_limit_holds_on_both_sides() {
        let (sender, _reader) = input(Arc::default());
        sender.push(&vec![0; MAX_QUEUED_BYTES]).expect("exactly the limit");
        assert_eq!(sender.push(&[0]), Err(InputOverflow));
    }

    #[test]
    fn small_packets_share_chunks() {
        let (sender, reader) = input(Arc::default());
        for _ in 0..CHUNK_BYTES {
            sender.push(b"xy").expect("there is room");
        }
        assert!(reader.queue.lock().chunks.len() <= 3, "{}", reader.queue.lock().chunks.len());
    }

    #[tokio::test]
    async fn bytes_come_out_in_order_and_then_the_end() {
        let (sender, mut reader) = input(Arc::default());
        let consumer = tokio::spawn(async move {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).await.expect("reading a queue does not fail");
            bytes
        });
        for byte in 0..=255 {
            sender.push(&[byte; 300]).expect("there is room");
            tokio::task::yield_now().await;
        }
        drop(sender);
        let expected: Vec<u8> = (0..=255).flat_map(|byte| [byte; 300]).collect();
        assert!(consumer.await.expect("the consumer ends") == expected);
    }
}

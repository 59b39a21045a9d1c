//! An agent's link: many streams over the bytes of one WebSocket, with yamux.
//!
//! Each stream has a window of its own (256 KiB at first, more where the path is long), so a slow reader stops its
//! own sender and nobody else. One task per link moves the bytes; it ends with the link.

use crate::{
    chunk::MAX_CHUNK_BYTES,
    close::{CloseCode, LinkError, StreamError},
    websocket::{ClosedAs, Parting, Receiver, Sender},
};
use bytes::{Bytes, BytesMut};
use converge_proto::rendezvous::RefusalCode;
use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Join, ReadBuf, ReadHalf, WriteHalf},
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Streams on one link. A peer that opens more loses the link, so a relay keeps its own limit below this one.
const MAX_STREAMS: usize = 640;
/// Every stream's window, from its begin.
const FIRST_WINDOW_BYTES: usize = 256 * 1024;
/// What the windows of a link may grow by, all together, where the path is long: 80 MB/s at 100 ms each way and back
/// want 8 MB for one stream.
const WINDOW_GROWTH_BYTES: usize = 32 * 1024 * 1024;
/// How long the peer may take to hear that the link is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Connection = yamux::Connection<Compat<Join<Receiver, Sender>>>;
type OpenReply = oneshot::Sender<Result<(MuxRecv, MuxSend), LinkError>>;

/// Which end of the multiplexer this is; each numbers its own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The agent.
    Dialing,
    /// The relay.
    Accepting,
}

/// A multiplexed link. Clones are the same link; it ends with the last one.
#[derive(Clone)]
pub struct MuxLink {
    open: mpsc::Sender<OpenReply>,
    accepted: Arc<Mutex<mpsc::Receiver<(MuxRecv, MuxSend)>>>,
    ended: watch::Receiver<Option<LinkError>>,
    close: Arc<watch::Sender<bool>>,
    parting: Parting,
}

impl fmt::Debug for MuxLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MuxLink")
    }
}

impl MuxLink {
    /// Starts the link's task on an open WebSocket.
    pub fn start(sender: Sender, receiver: Receiver, side: Side) -> Self {
        let mode = match side {
            Side::Dialing => yamux::Mode::Client,
            Side::Accepting => yamux::Mode::Server,
        };
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
            .set_max_connection_receive_window(Some(MAX_STREAMS * FIRST_WINDOW_BYTES + WINDOW_GROWTH_BYTES));
        config.set_split_send_size(MAX_CHUNK_BYTES);

        let (parting, closed_as) = (sender.parting.clone(), receiver.close.clone());
        let connection = Connection::new(tokio::io::join(receiver, sender).compat(), config, mode);
        let (open, open_requests) = mpsc::channel(16);
        let (accepted_sender, accepted) = mpsc::channel(MAX_STREAMS);
        let (ended_sender, ended) = watch::channel(None);
        let (close, close_requested) = watch::channel(false);
        let driver =
            Driver { connection, open_requests, waiting: VecDeque::new(), accepted: accepted_sender };
        tokio::spawn(driver.run(close_requested, closed_as, ended_sender));
        Self { open, accepted: Arc::new(Mutex::new(accepted)), ended, close: Arc::new(close), parting }
    }

    pub(crate) async fn open_stream(&self) -> Result<(MuxRecv, MuxSend), LinkError> {
        let (reply, stream) = oneshot::channel();
        match self.open.send(reply).await {
            Ok(()) => match stream.await {
                Ok(stream) => stream,
                Err(_) => Err(self.closed().await),
            },
            Err(_) => Err(self.closed().await),
        }
    }

    pub(crate) async fn accept_stream(&self) -> Result<(MuxRecv, MuxSend), LinkError> {
        match self.accepted.lock().await.recv().await {
            Some(stream) => Ok(stream),
            None => Err(self.closed().await),
        }
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.parting.set(code, reason);
        self.close.send_replace(true);
    }

    pub(crate) async fn closed(&self) -> LinkError {
        let mut ended = self.ended.clone();
        let error = ended.wait_for(Option::is_some).await;
        error.ok().and_then(|error| error.clone()).unwrap_or(LinkError::ClosedHere)
    }

    /// Waits until the link's task is over.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

/// What the link's task owns.
struct Driver {
    connection: Connection,
    open_requests: mpsc::Receiver<OpenReply>,
    waiting: VecDeque<OpenReply>,
    accepted: mpsc::Sender<(MuxRecv, MuxSend)>,
}

impl Driver {
    async fn run(
        mut self,
        mut close_requested: watch::Receiver<bool>,
        closed_as: ClosedAs,
        ended: watch::Sender<Option<LinkError>>,
    ) {
        let error = tokio::select! {
            error = std::future::poll_fn(|cx| self.poll(cx)) => {
                closed_as.take().unwrap_or_else(|| error.map_or(LinkError::ClosedHere, |e| LinkError::Broken(e.to_string())))
            }
            // An error means that nobody holds the link any more, which is a request too.
            _ = close_requested.wait_for(|requested| *requested) => LinkError::ClosedHere,
        };
        // Whoever waits for the link learns of its end now, not after the goodbyes.
        ended.send_replace(Some(error));
        let Self { mut connection, open_requests, waiting, accepted } = self;
        drop((open_requests, waiting, accepted));
        let goodbye = std::future::poll_fn(|cx| connection.poll_close(cx));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// Moves everything that can be moved. Ready when the connection has ended, with its error if it had one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<yamux::ConnectionError>> {
        while let Poll::Ready(Some(reply)) = self.open_requests.poll_recv(cx) {
            self.waiting.push_back(reply);
        }
        loop {
            while !self.waiting.is_empty() {
                match self.connection.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        if let Some(reply) = self.waiting.pop_front() {
                            // Whoever asked may have given up; the stream is reset by its drop.
                            let _ = reply.send(Ok(split(stream)));
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                    Poll::Pending => break,
                }
            }
            match self.connection.poll_next_inbound(cx) {
                // The channel has room for every stream that a link may have.
                Poll::Ready(Some(Ok(stream))) => drop(self.accepted.try_send(split(stream))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Both directions of a multiplexed stream.
fn split(stream: yamux::Stream) -> (MuxRecv, MuxSend) {
    let (read, write) = tokio::io::split(stream.compat());
    (MuxRecv { read, buffer: BytesMut::new() }, MuxSend { write, kept_back: BytesMut::new() })
}

/// The receiving direction of a multiplexed stream.
#[derive(Debug)]
pub(crate) struct MuxRecv {
    read: ReadHalf<Compat<yamux::Stream>>,
    /// Empty between reads; kept for its allocation.
    buffer: BytesMut,
}

impl MuxRecv {
    pub(crate) async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.buffer.reserve(MAX_CHUNK_BYTES);
        match self.read.read_buf(&mut self.buffer).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(self.buffer.split().freeze())),
            Err(error) => Err(StreamError::broken(&error)),
        }
    }
}

impl AsyncRead for MuxRecv {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, into)
    }
}

/// The sending direction of a multiplexed stream.
#[derive(Debug)]
pub(crate) struct MuxSend {
    write: WriteHalf<Compat<yamux::Stream>>,
    /// Small chunks on their way to be one message.
    kept_back: BytesMut,
}

impl MuxSend {
    pub(crate) async fn write_chunk(&mut self, chunk: &Bytes) -> Result<(), StreamError> {
        if self.kept_back.len() + chunk.len() > MAX_CHUNK_BYTES {
            self.flush().await?;
        }
        if chunk.len() >= MAX_CHUNK_BYTES / 2 {
            self.flush().await?;
            return self.write.write_all(chunk).await.map_err(not_wanted);
        }
        self.kept_back.extend_from_slice(chunk);
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), StreamError> {
        let kept_back = self.kept_back.split();
        self.write.write_all(&kept_back).await.map_err(not_wanted)
    }

    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        self.flush().await?;
        self.write.shutdown().await.map_err(not_wanted)
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
        debug_assert!(self.kept_back.is_empty(), "chunks are flushed before bytes are written");
        Pin::new(&mut self.get_mut().write).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(cx)
    }
}

//! An agent's link: many streams over the bytes of one WebSocket, with yamux.
//!
//! Each stream has a window of its own (256 KiB at first, more where the path is long), so a slow reader stops its
//! own sender and nobody else. One task per link moves the bytes; it ends with the link.

pub(crate) mod stream;

use crate::{
    chunk::MAX_CHUNK_BYTES,
    close::{CloseCode, LinkError},
    received::ReceivedBytes,
    websocket::{Parting, Receiver, Sender},
};
use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use stream::{MuxRecv, MuxSend, split};
use tokio::{
    io::{AsyncRead, Join, ReadBuf},
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Streams on one link. A peer that opens more loses the link, so a relay keeps its own limit below this one.
const MAX_STREAMS: usize = 640;
/// Every stream's window, from its begin.
const FIRST_WINDOW_BYTES: usize = 256 * 1024;
/// What the windows of a link may grow by, all together, where the path is long: 80 MB/s at 100 ms each way and back
/// want 8 MB for one stream.
const WINDOW_GROWTH_BYTES: usize = 32 * 1024 * 1024;
/// How long the peer may take to hear that the link is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Connection = yamux::Connection<Compat<Join<Shared<Receiver>, Sender>>>;
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
    received_bytes: ReceivedBytes,
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

        let (parting, received_bytes) = (sender.parting.clone(), sender.received_bytes());
        let receiver = Shared::new(receiver);
        let connection = Connection::new(tokio::io::join(receiver.clone(), sender).compat(), config, mode);
        let (open, open_requests) = mpsc::channel(16);
        let (accepted_sender, accepted) = mpsc::channel(MAX_STREAMS);
        let (ended_sender, ended) = watch::channel(None);
        let (close, close_requested) = watch::channel(false);
        let driver = Driver {
            connection,
            receiver,
            open_requests,
            waiting: VecDeque::new(),
            accepted: accepted_sender,
            ended: ended_sender,
        };
        tokio::spawn(driver.run(close_requested));
        Self {
            open,
            accepted: Arc::new(Mutex::new(accepted)),
            ended,
            close: Arc::new(close),
            parting,
            received_bytes,
        }
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

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.read()
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

/// What two owners use by turns. Unlike halves of tokio's, it shows all that is in it.
#[derive(Debug)]
struct Shared<T>(Arc<StdMutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(StdMutex::new(value)))
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Shared<Receiver> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, into)
    }
}

/// What the link's task owns.
struct Driver {
    connection: Connection,
    /// The multiplexer's while it runs, and this task's after it, for the goodbyes.
    receiver: Shared<Receiver>,
    open_requests: mpsc::Receiver<OpenReply>,
    waiting: VecDeque<OpenReply>,
    accepted: mpsc::Sender<(MuxRecv, MuxSend)>,
    ended: watch::Sender<Option<LinkError>>,
}

impl Driver {
    async fn run(mut self, mut close_requested: watch::Receiver<bool>) {
        let end = tokio::select! {
            end = std::future::poll_fn(|cx| self.poll(cx)) => Some(end),
            // An error means that nobody holds the link any more, which is a request too.
            _ = close_requested.wait_for(|requested| *requested) => None,
        };
        let error = match end {
            Some(error) => self.why_ended(error).await,
            None => LinkError::ClosedHere,
        };
        // Whoever waits for the link learns of its end now, not after the goodbyes.
        self.ended.send_replace(Some(error));
        let Self { mut connection, receiver, open_requests, waiting, accepted, ended } = self;
        drop((open_requests, waiting, accepted));
        let goodbye = async {
            // What was sent before goes out first. A peer that is gone needs no goodbye.
            let _ = std::future::poll_fn(|cx| connection.poll_close(cx)).await;
            // A socket that is closed with something unread takes the goodbye with it.
            std::future::poll_fn(|cx| receiver.lock().poll_over(cx)).await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
        drop(ended);
    }

    /// The multiplexer's own goodbye comes before the WebSocket's, which says why.
    async fn why_ended(&self, error: Option<yamux::ConnectionError>) -> LinkError {
        if error.is_none() {
            let close_frame = std::future::poll_fn(|cx| self.receiver.lock().poll_close_frame(cx));
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_frame).await;
        }
        let said = self.receiver.lock().closed_as.take();
        said.unwrap_or_else(|| match error {
            Some(error) => LinkError::Broken(error.to_string()),
            None => LinkError::Broken("the connection ended without a goodbye".to_owned()),
        })
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
                            let _ = reply.send(Ok(split(stream, self.ended.subscribe())));
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                    Poll::Pending => break,
                }
            }
            match self.connection.poll_next_inbound(cx) {
                // The channel has room for every stream that a link may have.
                Poll::Ready(Some(Ok(stream))) => {
                    drop(self.accepted.try_send(split(stream, self.ended.subscribe())));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

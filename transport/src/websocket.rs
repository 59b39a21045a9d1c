//! Streams and links over WebSocket (RFC 6455), with tungstenite.
//!
//! A client's session is one WebSocket; its binary messages are the same byte stream as on QUIC, and an empty one
//! ends a direction. An agent's link is one WebSocket whose byte stream carries a multiplexer ([`mux`]).

pub mod mux;

use crate::{
    chunk::{MAX_CHUNK_BYTES, put_some},
    close::{CloseCode, LinkError, StreamError},
    received::{Counted, ReceivedBytes},
};
use bytes::{Bytes, BytesMut};
use converge_proto::rendezvous::messages::Line;
use futures_util::{
    Sink, SinkExt, Stream as _, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Interval, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode as Status},
    },
};

/// Pings keep an idle WebSocket alive below the shortest common idle cut of proxies (30 s).
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The longest message that is accepted. Ours are at most [`MAX_CHUNK_BYTES`]; foreign tools send larger ones.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes read at once: what TLS gives at once. The library clears as much before each read.
const READ_BYTES: usize = 16 * 1024;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 64 * 1024;
/// The longest message of an agent's link. The library keeps room for one and more as long as the WebSocket lives, idle or not.
const LINK_MESSAGE_BYTES: usize = 16 * 1024;

/// What a WebSocket runs on: TCP or TLS, at either end.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection of any kind.
pub type BoxedIo = Box<dyn Io>;
type WebSocket = WebSocketStream<Counted>;

/// What the binary messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Ours (`converge.1`): an empty message ends the sender's direction.
    Converge,
    /// A foreign tool's: bytes only; the end of a direction is the end of the WebSocket.
    Raw,
}

/// Limits and buffers of every WebSocket.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// The accepting end, after the opening handshake has been answered.
pub async fn accepted(io: BoxedIo, framing: Framing) -> (Sender, Receiver) {
    split(WebSocketStream::from_raw_socket(Counted::new(io), Role::Server, Some(config())).await, framing)
}

/// Both directions of an open WebSocket.
pub(crate) fn split(websocket: WebSocket, framing: Framing) -> (Sender, Receiver) {
    let received_bytes = websocket.get_ref().received_bytes();
    let (sink, stream) = websocket.split();
    let mut ping_timer = tokio::time::interval(PING_INTERVAL);
    ping_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping_timer.reset();
    let sender = Sender {
        sink,
        framing,
        buffered: BytesMut::new(),
        ping_timer,
        finished: false,
        parting: Parting::default(),
        received_bytes,
    };
    let receiver = Receiver { stream, framing, rest: Bytes::new(), ended: false, closed_as: None };
    (sender, receiver)
}

/// The sending direction of a WebSocket.
pub struct Sender {
    sink: SplitSink<WebSocket, Message>,
    framing: Framing,
    /// Bytes of [`AsyncWrite`] on their way to be a message.
    buffered: BytesMut,
    ping_timer: Interval,
    finished: bool,
    parting: Parting,
    received_bytes: ReceivedBytes,
}

/// What [`AsyncWrite::poll_shutdown`] will say; shared with whoever decides to close.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parting(Arc<Mutex<Option<(CloseCode, Line)>>>);

impl Parting {
    pub(crate) fn set(&self, code: CloseCode, reason: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((code, Line::new(reason)));
    }

    fn frame(&self) -> CloseFrame {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (code, reason) = said.unwrap_or((CloseCode::DONE, Line::default()));
        close_frame(code, reason.as_str())
    }
}

fn close_frame(code: CloseCode, reason: &str) -> CloseFrame {
    // A control frame has room for 125 bytes, two of them the code (RFC 6455 section 5.5).
    let reason = converge_proto::Text::<120>::new(reason);
    let status = if code == CloseCode::DONE { Status::Normal } else { Status::from(code.to_websocket()) };
    CloseFrame { code: status, reason: reason.as_str().into() }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "websocket::Sender({:?})", self.framing)
    }
}

impl Sender {
    /// What has come in over the WebSocket.
    pub(crate) fn received_bytes(&self) -> ReceivedBytes {
        self.received_bytes.clone()
    }

    /// Sends bytes as messages; small ones may be kept back until [`flush`](Self::flush).
    pub(crate) async fn write_chunk(&mut self, mut chunk: Bytes) -> Result<(), StreamError> {
        while !chunk.is_empty() {
            let message = chunk.split_to(chunk.len().min(MAX_CHUNK_BYTES));
            self.sink.feed(Message::Binary(message)).await.map_err(stream_error)?;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), StreamError> {
        self.sink.flush().await.map_err(stream_error)
    }

    /// Ends this direction: by an empty message, or, in a raw session, with the WebSocket.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        let end = match self.framing {
            Framing::Converge => Message::Binary(Bytes::new()),
            Framing::Raw => Message::Close(Some(close_frame(CloseCode::DONE, ""))),
        };
        match self.sink.send(end).await {
            // The peer has closed first; what is left to do is to send the answer to that.
            Err(error) if self.framing == Framing::Raw && is_closing(&error) => self.flush_closing().await,
            result => result.map_err(stream_error),
        }
    }

    /// Sends the answer to the peer's close frame, after which the library says that the WebSocket is closed.
    async fn flush_closing(&mut self) -> Result<(), StreamError> {
        match self.sink.flush().await {
            Err(error) if !is_closing(&error) => Err(stream_error(error)),
            _ => Ok(()),
        }
    }

    /// Sends a close frame. A peer that is gone needs none, so this cannot fail.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) {
        let _ = self.sink.send(Message::Close(Some(close_frame(code, reason)))).await;
    }

    pub(crate) async fn keep_alive(&mut self) -> StreamError {
        loop {
            self.ping_timer.tick().await;
            if let Err(error) = self.sink.send(Message::Ping(Bytes::new())).await {
                return stream_error(error);
            }
        }
    }

    /// Makes a message of what [`AsyncWrite::poll_write`] has gathered.
    fn poll_send_buffered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffered.is_empty() {
            ready!(self.sink.poll_ready_unpin(cx)).map_err(io_error)?;
            let message = Message::Binary(self.buffered.split().freeze());
            self.sink.start_send_unpin(message).map_err(io_error)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The bytes of an agent's link: gathered into messages until one is full, or until a flush.
impl AsyncWrite for Sender {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.buffered.len() >= LINK_MESSAGE_BYTES {
            ready!(this.poll_send_buffered(cx))?;
        }
        let bytes =
            bytes.get(..bytes.len().min(LINK_MESSAGE_BYTES - this.buffered.len())).unwrap_or_default();
        this.buffered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_buffered(cx))?;
        Pin::new(&mut this.sink).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_buffered(cx))?;
        ready!(this.sink.poll_ready_unpin(cx)).map_err(io_error)?;
        // A second close frame is refused by the library: the first one is on its way, and flushing goes on.
        let _ = this.sink.start_send_unpin(Message::Close(Some(this.parting.frame())));
        Pin::new(&mut this.sink).poll_flush(cx).map_err(io_error)
    }
}

/// The receiving direction of a WebSocket.
pub struct Receiver {
    stream: SplitStream<WebSocket>,
    framing: Framing,
    /// What [`AsyncRead`] has not taken of the last message.
    rest: Bytes,
    ended: bool,
    /// Why the peer closed the WebSocket, when it said so, for whoever reports it.
    closed_as: Option<LinkError>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "websocket::Receiver({:?})", self.framing)
    }
}

impl Receiver {
    /// The payload of the next binary message, never empty; `None` at the end of the peer's direction.
    pub(crate) async fn read_message(&mut self) -> Result<Option<Bytes>, StreamError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) if self.framing == Framing::Raw && is_closing(&error) => {
                    return Poll::Ready(self.end_without_close());
                }
                Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
                None => return Poll::Ready(self.end_without_close()),
            };
            match (message, self.framing) {
                (Message::Binary(bytes), Framing::Converge) if bytes.is_empty() => self.ended = true,
                (Message::Binary(bytes), _) if !bytes.is_empty() => return Poll::Ready(Ok(Some(bytes))),
                (Message::Text(_), _) => return Poll::Ready(Err(StreamError::TextMessage)),
                (Message::Close(frame), _) => return Poll::Ready(self.end_with(frame)),
                // Empty raw messages say nothing; the library answers pings by itself.
                (Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => {}
            }
        }
    }

    /// Discards what comes until the peer has said why it closes, or the end.
    fn poll_close_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Ok(Some(_)) = ready!(self.poll_message(cx)) {}
        Poll::Ready(())
    }

    /// Discards what comes until both sides have closed, answering the peer's close frame.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(_)) = ready!(Pin::new(&mut self.stream).poll_next(cx)) {}
        Poll::Ready(())
    }

    /// TCP ended and nobody said why.
    fn end_without_close(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.ended = true;
        match self.framing {
            Framing::Raw => Ok(None),
            Framing::Converge => {
                Err(LinkError::Broken("the connection ended without a goodbye".to_owned()).into())
            }
        }
    }

    fn end_with(&mut self, frame: Option<CloseFrame>) -> Result<Option<Bytes>, StreamError> {
        self.ended = true;
        if self.framing == Framing::Raw {
            return Ok(None);
        }
        let error = match frame {
            Some(CloseFrame { code, reason }) => {
                let reason = Line::new(reason.as_str());
                match CloseCode::from_websocket(code.into()) {
                    Some(code) => LinkError::ClosedByPeer { code, reason },
                    None if matches!(code, Status::Normal | Status::Away) => {
                        LinkError::ClosedByPeer { code: CloseCode::DONE, reason }
                    }
                    None => {
                        LinkError::Broken(format!("the WebSocket was closed with status {code} {reason}"))
                    }
                }
            }
            None => LinkError::ClosedByPeer { code: CloseCode::DONE, reason: Line::default() },
        };
        self.closed_as = Some(error.clone());
        Err(error.into())
    }
}

impl AsyncRead for Receiver {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(this.poll_message(cx))? {
                Some(bytes) => this.rest = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        put_some(&mut this.rest, into);
        Poll::Ready(Ok(()))
    }
}

/// Whether nothing is wrong but that the WebSocket has ended, or is about to, which ends both directions of a raw
/// session.
fn is_closing(error: &tungstenite::Error) -> bool {
    use tungstenite::error::ProtocolError::{ResetWithoutClosingHandshake, SendAfterClosing};
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(SendAfterClosing | ResetWithoutClosingHandshake)
    )
}

fn stream_error(error: tungstenite::Error) -> StreamError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            LinkError::ClosedByPeer { code: CloseCode::DONE, reason: Line::default() }.into()
        }
        // Only text has to be UTF-8, so this was a text message too, and SSH bytes in it.
        tungstenite::Error::Utf8(_) => StreamError::TextMessage,
        other => StreamError::broken(&other),
    }
}

fn io_error(error: tungstenite::Error) -> io::Error {
    stream_error(error).into()
}

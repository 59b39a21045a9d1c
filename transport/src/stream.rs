//! One bidirectional byte stream on a link.
//!
//! Each direction is a half of its own. Bytes can be moved as chunks ([`RecvHalf::read_chunk`],
//! [`SendHalf::write_chunk`]), which copies nothing where the carrier has chunks, as frames, or through tokio's
//! `AsyncRead` and `AsyncWrite`.

use crate::{
    chunk::{self, MAX_CHUNK_BYTES, MAX_CHUNKS},
    close::{CloseCode, StreamError},
    quic,
    websocket::{self, mux::stream as mux_stream},
};
use bytes::{Bytes, BytesMut};
use converge_proto::{Frame, rendezvous::RefusalCode};
use futures_util::FutureExt;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long [`Stream::close`] waits for the peer to have everything.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Both directions of a stream.
#[derive(Debug)]
pub struct Stream {
    /// What the peer sends.
    pub recv: RecvHalf,
    /// What goes to the peer.
    pub send: SendHalf,
}

impl Stream {
    pub(crate) fn quic(send: quinn::SendStream, recv: quinn::RecvStream) -> Self {
        Self { recv: RecvHalf::new(RecvCarrier::Quic(recv)), send: SendHalf(SendCarrier::Quic(send)) }
    }

    pub(crate) fn multiplexed((recv, send): (mux_stream::MuxRecv, mux_stream::MuxSend)) -> Self {
        Self {
            recv: RecvHalf::new(RecvCarrier::Multiplexed(recv)),
            send: SendHalf(SendCarrier::Multiplexed(send)),
        }
    }

    /// A WebSocket of its own as a stream.
    pub fn websocket(sender: websocket::Sender, receiver: websocket::Receiver) -> Self {
        Self {
            recv: RecvHalf::new(RecvCarrier::WebSocket(receiver)),
            send: SendHalf(SendCarrier::WebSocket(sender)),
        }
    }

    /// Gives the stream up in both directions. What was not yet delivered may be lost.
    pub async fn reset(self, code: RefusalCode) {
        self.reset_with(code, &code.to_string()).await;
    }

    /// As [`reset`](Self::reset), with words for a person where the carrier has room for them: on a WebSocket of its
    /// own.
    pub async fn reset_with(mut self, code: RefusalCode, reason: &str) {
        self.recv.stop(code);
        self.send.reset_with(code, reason).await;
    }

    /// Ends the stream in peace: finishes the sending direction, if that has not been done, and waits, for at most
    /// three seconds, until the peer has everything that was sent.
    pub async fn close(self) {
        let Self { recv, mut send } = self;
        let delivered = async {
            // A peer that takes nothing more needs no end either.
            let _ = send.finish().await;
            match (&mut send.0, recv.carrier) {
                (SendCarrier::Quic(send), _) => {
                    // Either outcome means that the peer needs nothing more from us.
                    let _ = send.stopped().await;
                }
                (SendCarrier::WebSocket(send), RecvCarrier::WebSocket(mut recv)) => {
                    send.close(CloseCode::DONE, "").await;
                    while matches!(recv.read_message().await, Ok(Some(_))) {}
                }
                _ => {}
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, delivered).await;
    }
}

/// The receiving direction. Every method is cancel-safe: nothing that was received is lost.
#[derive(Debug)]
pub struct RecvHalf {
    /// Received, and not yet taken by a frame or a chunk.
    buffered: BytesMut,
    carrier: RecvCarrier,
}

#[derive(Debug)]
enum RecvCarrier {
    Quic(quinn::RecvStream),
    Multiplexed(mux_stream::MuxRecv),
    WebSocket(websocket::Receiver),
}

impl RecvHalf {
    fn new(carrier: RecvCarrier) -> Self {
        Self { buffered: BytesMut::new(), carrier }
    }

    /// The next bytes, never empty, or `None` after the peer's last one.
    ///
    /// # Errors
    /// [`StreamError`] when the stream or its link broke.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        if !self.buffered.is_empty() {
            return Ok(Some(self.buffered.split().freeze()));
        }
        self.carrier.read_chunk().await
    }

    /// Adds what is there behind the chunk that was read last, without waiting, up to [`MAX_CHUNKS`] in all.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk), which does not repeat it. The chunks are good.
    pub(crate) fn read_more(&mut self, chunks: &mut Vec<Bytes>) -> Result<(), StreamError> {
        if let RecvCarrier::Quic(recv) = &mut self.carrier
            && self.buffered.is_empty()
        {
            let mut more = [const { Bytes::new() }; MAX_CHUNKS];
            let room = more.get_mut(chunks.len()..).unwrap_or_default();
            let read = recv.read_chunks(room).now_or_never().transpose().map_err(quic::read_error)?;
            // An end comes again.
            chunks.extend(room.iter_mut().take(read.flatten().unwrap_or_default()).map(std::mem::take));
        }
        Ok(())
    }

    /// The next frame, or `None` at the end of the stream. What is behind the frame stays for the next call of any
    /// kind. Frames of a newer peer that may be skipped are skipped here, once for all programs.
    ///
    /// The caller sets the time limit. At most one frame and one chunk are held.
    ///
    /// # Errors
    /// [`StreamError`]; after [`StreamError::Frame`] the stream makes no sense any more.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffered)? {
                if frame.frame_type.is_known() || !frame.frame_type.may_be_skipped() {
                    return Ok(Some(frame));
                }
                continue;
            }
            match self.carrier.read_chunk().await? {
                Some(chunk) => self.buffered.extend_from_slice(&chunk),
                None if self.buffered.is_empty() => return Ok(None),
                None => return Err(StreamError::EndInsideFrame),
            }
        }
    }

    /// Asks the peer to stop sending (`STOP_SENDING` on QUIC). On WebSocket the end of the whole stream says it.
    pub fn stop(&mut self, code: RefusalCode) {
        if let RecvCarrier::Quic(recv) = &mut self.carrier {
            // It may have ended already; then there is nothing to stop.
            let _ = recv.stop(code.0.into());
        }
    }
}

impl RecvCarrier {
    async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        match self {
            Self::Quic(recv) => match recv.read_chunk(MAX_CHUNK_BYTES, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(error) => Err(quic::read_error(error)),
            },
            Self::Multiplexed(recv) => recv.read_chunk().await,
            Self::WebSocket(recv) => recv.read_message().await,
        }
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffered.is_empty() {
            return match &mut this.carrier {
                RecvCarrier::Quic(recv) => Pin::new(recv).poll_read(cx, into),
                RecvCarrier::Multiplexed(recv) => Pin::new(recv).poll_read(cx, into),
                RecvCarrier::WebSocket(recv) => Pin::new(recv).poll_read(cx, into),
            };
        }
        let len = this.buffered.len().min(into.remaining());
        into.put_slice(&this.buffered.split_to(len));
        Poll::Ready(Ok(()))
    }
}

/// The sending direction. A method that was cancelled may have sent a part; do not go on after that.
#[derive(Debug)]
pub struct SendHalf(SendCarrier);

#[derive(Debug)]
enum SendCarrier {
    Quic(quinn::SendStream),
    Multiplexed(mux_stream::MuxSend),
    WebSocket(websocket::Sender),
}

impl SendHalf {
    /// Sends bytes, waiting while the peer does not take more. Some carriers keep small chunks back until
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`StreamError`] when the stream or its link broke, or the peer does not want more.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), StreamError> {
        match &mut self.0 {
            SendCarrier::Quic(send) => send.write_chunk(chunk).await.map_err(quic::write_error),
            SendCarrier::Multiplexed(send) => send.write_chunk(&chunk).await,
            SendCarrier::WebSocket(send) => send.write_chunk(chunk).await,
        }
    }

    /// Sends several chunks, and leaves them empty.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub(crate) async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        match &mut self.0 {
            SendCarrier::Quic(send) => match chunk::gather(chunks) {
                Some(gathered) => send.write_chunk(gathered).await,
                None => send.write_all_chunks(chunks).await,
            }
            .map_err(quic::write_error),
            SendCarrier::Multiplexed(_) | SendCarrier::WebSocket(_) => {
                for chunk in chunks {
                    self.write_chunk(std::mem::take(chunk)).await?;
                }
                Ok(())
            }
        }
    }

    /// Sends what was kept back.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        match &mut self.0 {
            SendCarrier::Quic(_) => Ok(()),
            SendCarrier::Multiplexed(send) => send.flush().await,
            SendCarrier::WebSocket(send) => send.flush().await,
        }
    }

    /// Sends one frame, at once.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub async fn write_frame(&mut self, frame: &Frame) -> Result<(), StreamError> {
        self.write_chunk(frame.to_bytes()).await?;
        self.flush().await
    }

    /// Tells the peer that nothing more comes. What was sent is still delivered. A second call does nothing.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        match &mut self.0 {
            SendCarrier::Quic(send) => {
                // Finished or reset already: the peer knows.
                let _ = send.finish();
                Ok(())
            }
            SendCarrier::Multiplexed(send) => send.finish().await,
            SendCarrier::WebSocket(send) => send.finish().await,
        }
    }

    /// Gives the direction up; what was not yet delivered may be lost. The peer reads the code, and on a WebSocket of
    /// its own the code's name as the reason of the end.
    pub async fn reset(&mut self, code: RefusalCode) {
        self.reset_with(code, &code.to_string()).await;
    }

    async fn reset_with(&mut self, code: RefusalCode, reason: &str) {
        match &mut self.0 {
            SendCarrier::Quic(send) => {
                // Finished or reset already: nothing left to give up.
                let _ = send.reset(code.0.into());
            }
            // A peer that does not take even this sees the stream end in the middle.
            SendCarrier::Multiplexed(send) => {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, send.reset(code)).await;
            }
            SendCarrier::WebSocket(send) => {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, send.close(code.into(), reason)).await;
            }
        }
    }

    /// Keeps middle boxes from forgetting an idle WebSocket: pings when it is time, and never returns but on an
    /// error. The other carriers keep their links alive themselves. Cancel-safe.
    pub async fn keep_alive(&mut self) -> StreamError {
        match &mut self.0 {
            SendCarrier::Quic(_) | SendCarrier::Multiplexed(_) => std::future::pending().await,
            SendCarrier::WebSocket(send) => send.keep_alive().await,
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            SendCarrier::Quic(send) => {
                Poll::Ready(ready!(Pin::new(send).poll_write(cx, bytes)).map_err(io::Error::from))
            }
            SendCarrier::Multiplexed(send) => Pin::new(send).poll_write(cx, bytes),
            SendCarrier::WebSocket(send) => Pin::new(send).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            SendCarrier::Quic(send) => Pin::new(send).poll_flush(cx),
            SendCarrier::Multiplexed(send) => Pin::new(send).poll_flush(cx),
            SendCarrier::WebSocket(send) => Pin::new(send).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            SendCarrier::Quic(send) => Pin::new(send).poll_shutdown(cx),
            SendCarrier::Multiplexed(send) => Pin::new(send).poll_shutdown(cx),
            SendCarrier::WebSocket(send) => Pin::new(send).poll_shutdown(cx),
        }
    }
}

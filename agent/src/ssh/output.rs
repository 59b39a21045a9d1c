//! What goes back to the client on one channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::exit::Exit;
use crate::life::activity::Activity;

/// How much is read from a program at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;
/// Below this much free space a new buffer is begun; a terminal's output comes in pieces of 4 KiB.
const LEAST_READ_BYTES: usize = 4 * 1024;

/// SSH's number for standard error ([RFC 4254 section 5.2](https://www.rfc-editor.org/rfc/rfc4254#section-5.2)).
const STDERR: u32 = 1;

/// The two streams of a program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The connection has ended.
#[derive(Debug)]
pub(super) struct ConnectionClosed;

/// The sending half of a channel.
///
/// Sending waits for the client's window, so a client that does not read stops its own program and nothing else.
/// Data goes out through the channel's half, never through [`Handle::data`]: only the former keeps within the window,
/// and data beyond it would make the library hold back *all* channels of the connection.
pub(super) struct ChannelOutput {
    channel: ChannelWriteHalf<Msg>,
    connection: Handle,
    /// Told of what is sent, when that is a user's doing.
    activity: Option<Activity>,
}

impl ChannelOutput {
    /// What is sent counts as a user's activity when there is an `activity`: not that of terminals, nor what others
    /// send into forwarded ports.
    pub(super) fn new(
        channel: ChannelWriteHalf<Msg>,
        connection: Handle,
        activity: Option<Activity>,
    ) -> Self {
        Self { channel, connection, activity }
    }

    /// Sends bytes; not cancel-safe, part of them may have been sent.
    pub(super) async fn send(&self, stream: Stream, bytes: impl Into<Bytes>) -> Result<(), ConnectionClosed> {
        match stream {
            Stream::Stdout => self.channel.data_bytes(bytes).await,
            Stream::Stderr => self.channel.extended_data_bytes(STDERR, bytes).await,
        }
        .map_err(|_| ConnectionClosed)?;
        if let Some(activity) = &self.activity {
            activity.touch();
        }
        Ok(())
    }

    /// Sends everything from `source` until its end, or until the connection ends.
    pub(super) async fn copy<R: AsyncRead + Unpin>(&self, mut source: R, stream: Stream) {
        let mut buffer = BytesMut::new();
        while let Ok(count) = read_chunk(&mut source, &mut buffer).await {
            if count == 0 || self.send(stream, buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    }

    /// Standard output for code that wants to write by itself. Its end is said by [`finish`](Self::finish) alone.
    pub(super) fn stdout(&self) -> impl AsyncWrite + Send + Unpin + 'static {
        CountedWriter { inner: self.channel.make_writer(), activity: self.activity.clone() }
    }

    /// Says that no more bytes follow; the other direction stays open.
    pub(super) async fn end(&self) -> Result<(), ConnectionClosed> {
        self.channel.eof().await.map_err(|_| ConnectionClosed)
    }

    /// Ends the channel of a forwarded connection, in both directions.
    pub(super) async fn close(self) {
        // Fails only when the connection has ended, and then there is nobody to tell.
        let _ = self.channel.close().await;
    }

    /// Ends the channel. The order matters: a client that has closed its own direction may answer EOF with CLOSE at once, and
    /// nothing is sent on the channel after that.
    pub(super) async fn finish(self, exit: Exit) {
        // Each of these fails only when the connection has ended, and then there is nobody to tell.
        match exit {
            Exit::Status(status) => {
                let _ = self.channel.exit_status(status).await;
            }
            Exit::Signal { name, core_dumped, message } => {
                let id = self.channel.id();
                let name = Sig::Custom(name);
                let _ =
                    self.connection.exit_signal_request(id, name, core_dumped, message, String::new()).await;
            }
        }
        let _ = self.channel.eof().await;
        let _ = self.channel.close().await;
    }
}

/// Reads once into `buffer`, giving it room first; cancel-safe.
pub(super) async fn read_chunk<R: AsyncRead + Unpin>(
    source: &mut R,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < LEAST_READ_BYTES {
        *buffer = BytesMut::with_capacity(READ_BYTES);
    }
    source.read_buf(buffer).await
}

/// Counts what is written as a user's activity.
struct CountedWriter<W> {
    inner: W,
    activity: Option<Activity>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for CountedWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(context, data))?;
        if let Some(activity) = &self.activity {
            activity.touch();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Not passed on, as the channel's writer would say EOF, which [`ChannelOutput::finish`] does, too. Clients such as
    /// asyncssh end the connection at a second one.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

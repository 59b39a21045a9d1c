//! One forwarded connection: bytes in both directions between a channel and a socket.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::platform::local_socket::Halves;
use crate::ssh::channels::ChannelTask;
use crate::ssh::flow::InputReader;
use crate::ssh::output::{ChannelOutput, ConnectionClosed, Stream, read_chunk};

/// How long a socket may refuse to take what is still queued for it after the client has closed the channel.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// The two directions of a socket.
pub(super) struct Socket {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        // Somebody may be typing. Fails only when the connection is gone, which the pump will notice.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

impl From<Halves> for Socket {
    fn from((reader, writer): Halves) -> Self {
        Self { reader, writer }
    }
}

/// Copies until both directions have ended, the socket breaks, or the client closes the channel; closes both then.
///
/// The end of one direction is passed on and leaves the other one open. Neither waits for the other.
pub(super) async fn pump(
    socket: Socket,
    task: ChannelTask,
    output: ChannelOutput,
    ended: &CancellationToken,
) {
    let ChannelTask { input, closed, over } = task;
    let Socket { mut reader, writer } = socket;
    let delivered = CancellationToken::new();
    let to_socket = async {
        deliver(input, writer, &closed).await;
        delivered.cancel();
        Ok(())
    };
    let to_client = async {
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            copied = copy(&mut reader, &output) => return copied,
        }
        // A socket that is closed with unread bytes is reset, and what it still had to send is lost.
        discard(&mut reader).await;
        Ok(())
    };
    let closed_and_delivered = async {
        closed.cancelled().await;
        delivered.cancelled().await;
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => return,
        () = closed_and_delivered => {}
        ends = async { tokio::try_join!(to_socket, to_client) } => {
            if let Err(Broken) = ends {
                debug!("a forwarded connection broke");
            }
        }
    }
    output.close().await;
    drop(over);
}

/// The socket or the SSH connection is broken, and nothing more can be copied in either direction.
struct Broken;

impl From<ConnectionClosed> for Broken {
    fn from(_: ConnectionClosed) -> Self {
        Self
    }
}

/// From the socket to the client, up to the socket's end.
async fn copy(reader: &mut (impl AsyncRead + Unpin), output: &ChannelOutput) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        match read_chunk(reader, &mut buffer).await {
            Ok(0) => return Ok(output.end().await?),
            Ok(_) => output.send(Stream::Stdout, buffer.split().freeze()).await?,
            Err(error) => {
                debug!(%error, "a forwarded connection cannot be read");
                return Err(Broken);
            }
        }
    }
}

/// From the client to the socket. When the socket takes no more, the rest is discarded: there may still be an answer.
async fn deliver(mut input: InputReader, mut writer: impl AsyncWrite + Unpin, closed: &CancellationToken) {
    while let Some(chunk) = input.next().await {
        let too_long = async {
            closed.cancelled().await;
            tokio::time::sleep(DRAIN_TIME).await;
        };
        let written = tokio::select! {
            biased;
            written = writer.write_all(&chunk) => written.is_ok(),
            () = too_long => false,
        };
        if !written {
            return;
        }
    }
    // Fails when the connection is gone, and then the other direction notices.
    let _ = writer.shutdown().await;
}

async fn discard(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

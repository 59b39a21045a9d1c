//! The SFTP server: one client's requests, from a byte stream to the file system and back.
//!
//! Protocol version 3 as OpenSSH speaks it ([draft], with OpenSSH's [`PROTOCOL`] where they differ), names being
//! arbitrary bytes. [`serve`] runs one session over any pair of byte streams; whoever calls it opens the SSH channel
//! and ends it. There is no access control here but [`SftpConfig::read_only`]: the user has a shell on the same machine,
//! with the same rights.
//!
//! ```text
//! reader ─► packets ─► requests queued ─► worker thread ─► replies queued ─► writer
//! ```
//!
//! - Clients send many requests before they read a reply. Reading does not wait for writing: requests queue until they
//!   hold [`REQUEST_QUEUE_BYTES`], replies until they hold [`REPLY_QUEUE_BYTES`], and only a client that sends that
//!   much more without reading anything has to wait. A short request can keep the block alive that it was read into,
//!   next to a long one: at most twice the queue. With the worker's eight spare blocks of 255 KiB and the packets under
//!   way, a session never holds more than 48 MiB.
//! - The worker executes in order of arrival, on all handles, and every request is answered exactly once.
//! - What a client writes stays in the buffer it was read into until it is in the file; what it reads is sent from the
//!   buffer the file was read into.
//!
//! [draft]: https://www.openssh.com/txt/draft-ietf-secsh-filexfer-02.txt
//! [`PROTOCOL`]: https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL?annotate=HEAD

mod accounts;
mod attrs;
mod block;
mod extension;
mod failure;
mod frame;
mod handles;
mod long_name;
mod paths;
mod reply;
mod request;
mod session;
mod system;
mod wire;
mod worker;

use std::{io, path::PathBuf, pin::pin};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub use self::wire::DecodeError;
use self::{
    frame::Frames,
    paths::Root,
    reply::Packet,
    request::Incoming,
    session::Session,
    worker::{Closed, Receiver, Sender, Worker},
};

/// How many bytes of requests wait for the worker: OpenSSH's default of 64 writes with 255 KiB each.
pub const REQUEST_QUEUE_BYTES: u32 = 17 * 1024 * 1024;

/// How many bytes of replies wait for the writer: enough for it never to wait for the worker.
pub const REPLY_QUEUE_BYTES: u32 = 8 * 1024 * 1024;

/// The most files and directories a session may have open. OpenSSH's own clients need a handful; a mounted file system
/// has as many as programs on it have.
const MAX_HANDLES: usize = 1024;

/// Replies up to this length are put together and written at once.
const SMALL_REPLY_BYTES: usize = 4 * 1024;

/// How many replies the writer takes from the queue at a time.
const REPLY_BATCH: usize = 64;

/// What a session starts from.
#[derive(Debug, Clone)]
pub struct SftpConfig {
    /// The directory in which relative paths start: the CI step's working directory.
    pub root_dir: PathBuf,
    /// Whether requests that change anything are refused.
    pub read_only: bool,
}

/// Why a session ended other than by the client's end of input.
#[derive(Debug, thiserror::Error)]
pub enum SftpError {
    /// The system gave no thread for the session.
    #[error("no thread for the SFTP session")]
    Thread(#[source] io::Error),
    /// The bytes from the client stopped with an error.
    #[error("reading SFTP requests failed")]
    Read(#[source] io::Error),
    /// The client takes no more bytes.
    #[error("writing SFTP replies failed")]
    Write(#[source] io::Error),
    /// The client announced a packet of no bytes or of more than fit. What follows cannot be understood.
    #[error("an SFTP packet of {got} bytes; between 1 and {allowed} are allowed")]
    PacketLength {
        /// The length announced.
        got: usize,
        /// The longest allowed.
        allowed: u32,
    },
    /// The input ended inside a packet.
    #[error("the SFTP input ended {missing} bytes before the end of a packet")]
    EndInPacket {
        /// How many bytes at least are missing.
        missing: usize,
    },
    /// The client's packet has no request number, so that it cannot be refused.
    #[error("an SFTP packet makes no sense")]
    Packet(#[source] DecodeError),
    /// The first packet was not the opening.
    #[error("an SFTP request came before the opening packet")]
    NotOpened,
    /// The session's thread ended before its input: a fault of ours, reported where it happened.
    #[error("the SFTP worker ended early")]
    WorkerEnded,
}

/// Serves one client until its input ends; `Ok` means that it ended between two packets and that every request has
/// been answered.
///
/// After an end of input, or after a packet that ends the session, the replies to everything before are still written.
/// Errors of the streams end the session at once. In every case the client's files are closed when this returns.
///
/// Cancel-safe in the sense that dropping the future ends the session: the request being executed is the last one, and
/// files are closed after it.
///
/// # Errors
///
/// See [`SftpError`]; a request that fails is an answer, not an error.
pub async fn serve<R, W>(reader: R, writer: W, config: SftpConfig) -> Result<(), SftpError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    // A quarter of what the process may open, so that no session starves the others.
    let handle_limit = (system::open_file_limit() / 4).clamp(16, MAX_HANDLES);
    let worker = Worker::start(REQUEST_QUEUE_BYTES, REPLY_QUEUE_BYTES, move |stopped| {
        Session::new(Root::new(config.root_dir), handle_limit, stopped).read_only(config.read_only)
    });
    let Worker { requests, mut replies, stop } = worker.map_err(SftpError::Thread)?;
    let result = {
        let mut input = pin!(receive(reader, requests));
        let mut output = pin!(send(&mut replies, writer));
        tokio::select! {
            // In any order: replies end after requests do, and an error of either ends both.
            received = &mut input => match received {
                Err(error @ (SftpError::Read(_) | SftpError::EndInPacket { .. })) => Err(error),
                received => received.and(output.await),
            },
            written = &mut output => written.and(Err(SftpError::WorkerEnded)),
        }
    };
    drop(stop);
    // The queue ends when the worker has closed everything.
    while replies.recv().await.is_some() {}
    result
}

/// Reads packets and queues them. The worker drains its queue and ends when this returns.
async fn receive(reader: impl AsyncRead + Unpin, requests: Sender<Incoming>) -> Result<(), SftpError> {
    let mut frames = Frames::new(reader);
    let mut opened = false;
    while let Some(packet) = frames.next().await? {
        let packet_bytes = packet.len();
        let incoming = Incoming::decode(packet).map_err(SftpError::Packet)?;
        opened |= matches!(incoming, Incoming::Init { .. });
        if !opened {
            return Err(SftpError::NotOpened);
        }
        if let Err(Closed) = requests.send(incoming, packet_bytes).await {
            return Err(SftpError::WorkerEnded);
        }
    }
    Ok(())
}

/// Writes replies as they come, small ones together, until there are no more.
async fn send(replies: &mut Receiver<Packet>, mut writer: impl AsyncWrite + Unpin) -> Result<(), SftpError> {
    let mut batch = Vec::with_capacity(REPLY_BATCH);
    let mut small = Vec::new();
    while replies.recv_many(&mut batch, REPLY_BATCH).await > 0 {
        for reply in batch.drain(..) {
            let packet = reply.item.bytes();
            if packet.len() <= SMALL_REPLY_BYTES {
                small.extend_from_slice(packet);
                continue;
            }
            write(&mut writer, &mut small).await?;
            writer.write_all(packet).await.map_err(SftpError::Write)?;
        }
        write(&mut writer, &mut small).await?;
        if replies.is_empty() {
            writer.flush().await.map_err(SftpError::Write)?;
        }
    }
    // Everything has been written; a client that is gone by now has missed nothing.
    let _ = writer.shutdown().await;
    Ok(())
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), small: &mut Vec<u8>) -> Result<(), SftpError> {
    writer.write_all(small).await.map_err(SftpError::Write)?;
    small.clear();
    Ok(())
}

/// Runs the request decoder on arbitrary bytes: the body of a fuzz target.
#[doc(hidden)]
pub fn fuzz_request(data: &[u8]) {
    let _ = Incoming::decode(Bytes::copy_from_slice(data));
}

#[cfg(all(test, unix))]
mod tests;

//! What an agent of a crowd does with a session: it sends as many bytes as it is asked for.

use anyhow::{Context, Result, ensure};
use converge_proto::{
    rendezvous::{Incoming, Message, SessionKind},
    session::Attach,
};
use converge_transport::{Room, SessionIo, SessionLink, Stream};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As much as goes into one frame.
static BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];

/// Serves a stream that the relay has opened, until its session is over. Nothing is kept for a visitor who comes back.
pub(super) async fn serve(mut stream: Stream, _room: Room) -> Result<()> {
    let incoming: Incoming = read(&mut stream).await?;
    ensure!(incoming.kind == SessionKind::Resumable, "a session of another kind");
    let attach: Attach = read(&mut stream).await?;
    let (io, session) = SessionLink::agent();
    let (attached, attachment) = session.accept(&attach)?;
    stream.send.write_frame(&attached.to_frame()).await?;
    let driving = async { Ok(attachment.drive(&mut stream).await?) };
    tokio::try_join!(driving, send_what_is_wanted(io))?;
    stream.close().await;
    Ok(())
}

async fn read<M: Message>(stream: &mut Stream) -> Result<M> {
    let frame = stream.recv.read_frame().await?.context("the stream has ended")?;
    Ok(M::from_frame(&frame)?)
}

/// Answers each number with so many bytes, until no more come.
async fn send_what_is_wanted(mut io: SessionIo) -> Result<()> {
    loop {
        let mut left = match io.read_u64().await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            wanted => usize::try_from(wanted?)?,
        };
        while left > 0 {
            let block = BLOCK.get(..left).unwrap_or(&BLOCK);
            io.write_all(block).await?;
            left -= block.len();
        }
    }
}

//! Clients of a crowd in one process: real sessions, by the code of the client, and nobody's SSH in them.

use super::{id, over};
use crate::Carrier;
use anyhow::{Context, Result};
use converge_client::{ClientError, Target, session};
use converge_proto::{Address, RelayUrl};
use converge_transport::DialOptions;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::oneshot,
    task::JoinHandle,
};

/// One session with an agent of a crowd. Dropping it ends it in order, some time later.
pub struct Visitor {
    /// What goes to the agent; its end is the session's end.
    says: DuplexStream,
    received_bytes: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    session: JoinHandle<Result<session::End, ClientError>>,
}

/// Agent `number` of a crowd at this relay, to be visited over one carrier.
///
/// # Errors
/// When that makes no URL.
pub fn target(relay: &RelayUrl, carrier: Carrier, number: u32) -> Result<Arc<Target>> {
    let relay = over(relay, carrier)?;
    let address = Address { id: id(number)?, fingerprint: None, relay: Some(relay.clone()) };
    let (relays, options) = (relay.into(), DialOptions::default());
    Ok(Arc::new(Target { address, relays, options, token: None, wait: Duration::ZERO, quiet: true }))
}

impl Visitor {
    /// Opens a session, which then is idle.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(target: Arc<Target>) -> Result<Self> {
        let (says, mut hears) = tokio::io::duplex(64);
        let received_bytes = Arc::new(AtomicU64::new(0));
        let mut received = Counted(received_bytes.clone());
        let (opened, is_open) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let session = tokio::spawn(async move {
            let session = session::connect(&target, &mut hears).await?;
            // Whoever opens it waits, or is gone.
            let _ = opened.send(());
            let stopped = async {
                if stopped.await.is_err() {
                    // Nobody will ever stop it.
                    std::future::pending::<()>().await;
                }
            };
            session.copy(&mut hears, &mut received, stopped, None).await
        });
        match is_open.await {
            Ok(()) => Ok(Self { says, received_bytes, stop, session }),
            Err(_) => Err(session.await?.err().context("the session has ended before it began")?.into()),
        }
    }

    /// Asks for so many bytes.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn ask_for(&mut self, bytes: u64) -> Result<()> {
        Ok(self.says.write_u64(bytes).await?)
    }

    /// How many have come.
    pub fn received(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Ends the session in order, when everything that was asked for has come. Returns how much that was.
    ///
    /// # Errors
    /// When the session ends in another way.
    pub async fn leave(self) -> Result<u64> {
        drop(self.says);
        self.session.await??;
        Ok(self.received_bytes.load(Ordering::Relaxed))
    }

    /// Gives the session up.
    ///
    /// # Errors
    /// When it was over already.
    pub async fn give_up(self) -> Result<()> {
        // If nobody hears it, the session is over, which is said below.
        let _ = self.stop.send(());
        self.session.await??;
        Ok(())
    }
}

/// Counts what is written.
struct Counted(Arc<AtomicU64>);

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, _: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

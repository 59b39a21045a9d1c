//! SIGTERM, SIGINT and SIGHUP.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::platform::signals::{Ignored, Signal};

/// The signals that stop an agent.
pub(crate) struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// Unless the agent was started with it ignored (`nohup`).
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl StopSignals {
    pub(crate) fn new(ignored: Ignored) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: (!ignored.has(Signal::HUP)).then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hang_up => Signal::HUP.as_raw(),
            _ = self.terminate.recv() => Signal::TERM.as_raw(),
            _ = self.interrupt.recv() => Signal::INT.as_raw(),
        }
    }
}

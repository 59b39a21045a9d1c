//! Signals: to stop, and to read the configuration again.

use super::reload::Reloading;
use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The signals that the relay waits for. From its making on, none of them ends the process by itself.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
        })
    }

    /// Serves them until the set is dropped: the first signal to stop drains, the second ends.
    pub(super) fn serve(
        self,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
        stop_now: CancellationToken,
        mut reloading: Reloading,
    ) {
        let Self { mut terminate, mut interrupt, mut hangup } = self;
        tasks.spawn(async move {
            for token in [stop, stop_now] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        tasks.spawn(async move {
            while hangup.recv().await.is_some() {
                reloading.again().await;
            }
        });
    }
}

//! What many agents and many sessions cost a relay.
//!
//! They are real ones, from this process ([`Crowd`](crate::crowd::Crowd), [`Visitor`]), which shares the
//! machine with the relay: a rate is that of both together. Each part prints its table as it goes.

pub mod closed_sessions;
pub mod idle_agents;
pub mod idle_sessions;
pub mod parallel_sessions;

use crate::{
    Carrier, Relay,
    crowd::{Visitor, visitor},
    process::eventually,
};
use anyhow::Result;
use converge_client::Target;
use converge_proto::RelayUrl;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

/// All come from one address here, and are to come as fast as they can.
const NO_LIMITS: &[&str] = &[
    "--max-connections=0",
    "--max-connections-per-address=0",
    "--max-agents=0",
    "--max-agents-per-address=0",
    "--max-sessions=0",
    "--handshake-rate=0",
    "--handshake-rate-per-address=0",
    "--max-handshakes=0",
];

/// Sessions that one process opens at the same time; the library dials fewer at once.
const AT_ONCE: usize = 16;
/// How many sessions an agent has, where there are many.
const SESSIONS_PER_AGENT: u32 = 50;

/// A relay that limits nobody, for one crowd on one carrier.
pub struct Scene {
    /// The relay.
    pub relay: Relay,
    /// Its URL.
    pub url: RelayUrl,
    /// What all links are on.
    pub carrier: Carrier,
    _directory: TempDir,
}

impl Scene {
    /// Starts the relay.
    ///
    /// # Errors
    /// When it does not start.
    pub fn new(carrier: Carrier) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
        let relay = Relay::start_with(directory.path(), "127.0.0.1:0", NO_LIMITS)?;
        let url = relay.url.parse()?;
        Ok(Self { relay, url, carrier, _directory: directory })
    }

    /// What the relay has resident after it was left alone for so long.
    async fn resident_after(&self, settling: Duration) -> Result<u64> {
        tokio::time::sleep(settling).await;
        self.relay.process.resident_memory_bytes()
    }

    /// Opens a session with an agent of the crowd.
    async fn visit(&self, agent: u32) -> Result<Visitor> {
        Visitor::open(self.target(agent)?).await
    }

    fn target(&self, agent: u32) -> Result<Arc<Target>> {
        visitor::target(&self.url, self.carrier, agent)
    }

    /// Opens so many sessions with so many agents, which stay idle.
    async fn visit_all(&self, sessions: u32, agents: u32) -> Result<Vec<Visitor>> {
        let opening = stream::iter(0..sessions).map(|number| self.visit(number % agents));
        opening.buffer_unordered(AT_ONCE).try_collect().await
    }

    fn sessions(&self) -> Result<u64> {
        self.metric("converge_sessions")
    }

    fn metric(&self, name: &str) -> Result<u64> {
        tokio::task::block_in_place(|| self.relay.metric(name))
    }

    /// Waits until the relay says that no session is left, and no connection but those of so many agents.
    ///
    /// # Errors
    /// When some stay.
    fn wait_until_they_are_gone(&self, agents: u32) -> Result<()> {
        // One more asks for the metric.
        let connections = u64::from(agents) + 1;
        tokio::task::block_in_place(|| {
            eventually("the end of all sessions in the relay", || {
                let sessions = self.relay.metric("converge_sessions").ok()?;
                let left = self.relay.metric("converge_connections").ok()?;
                (sessions == 0 && left <= connections).then_some(())
            })
        })
    }
}

/// A figure for people: what a float loses of a byte count does not show.
#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// What each of so many takes of this growth, in KiB.
fn kib_each(before: u64, after: u64, count: u32) -> f64 {
    mib(after.saturating_sub(before)) * 1024.0 / f64::from(count)
}

//! Several relays that act as one, each on a host of its own, and etcd on another.
//!
//! ```text
//!   relay N 198.18.N.10 ──┐
//!                         ├── the internet ── job, laptop
//!     etcd 198.18.100.10 ─┘
//! ```

use super::{Host, Lab};
use crate::cluster::{Cluster, Etcd, Place};
use anyhow::Result;
use std::{net::Ipv4Addr, sync::Arc};

/// Networks that RFC 2544 keeps free for tests. The first is somebody else's.
const fn network(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, number, 0)
}

const ETCD_NETWORK: Ipv4Addr = network(100);

/// A cluster in a [`Lab`], whose own relay host stays unused.
#[derive(Debug)]
pub struct ClusterLab {
    /// The relays and etcd.
    pub cluster: Cluster,
    /// By number, from 1.
    relays: Vec<Arc<Host>>,
    etcd: Arc<Host>,
}

impl ClusterLab {
    /// Starts so many relays, each with these arguments, and waits until they know each other.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start<A: AsRef<str>>(
        lab: &Lab,
        relays: u8,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let etcd = lab.host("etcd", ETCD_NETWORK)?;
        let relays = (1..=relays).map(|number| lab.host(&format!("relay-{number}"), network(number)));
        let relays = relays.collect::<Result<Vec<_>>>()?;
        let places: Vec<_> = relays.iter().cloned().map(Place::Host).collect();
        let running = Etcd::start_at(&Place::Host(etcd.clone()), lab.path())?;
        let cluster = Cluster::start_at(lab.path(), running, &places, arguments)?;
        Ok(Self { cluster, relays, etcd })
    }

    /// The host of the relay of this number.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&self, number: usize) -> &Host {
        &self.relays[number - 1]
    }

    /// From now on nothing passes between this relay and etcd, nor between it and the other relays. Agents and clients still
    /// reach it.
    pub fn cut_off(&self, number: usize) {
        let host = self.host(number);
        let others = self.relays.iter().filter(|other| other.address() != host.address());
        host.uplink().cut_from(others.chain([&self.etcd]).map(|other| other.uplink()));
    }

    /// Everything passes again.
    pub fn heal(&self, number: usize) {
        self.host(number).uplink().heal();
    }
}

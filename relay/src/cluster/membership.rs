//! A relay's place in its cluster, from start to end.

use super::{
    Cluster, accept, endpoint,
    packets::{Carrying, Packets},
};
use crate::{
    config::{Live, cluster::ClusterConfig},
    registry::{
        EtcdRegistry,
        etcd::{Follower, Member},
    },
    server::BindError,
    shared::Shared,
};
use converge_certs::Identity;
use converge_transport::quic::{
    CidFormat, ClusterCids, Crossing, NotForwarded, Protection, Rotation, Strays,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long the others may take to hear that this relay has gone; they notice by themselves soon after.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long before the end of its certificate a relay that starts says so.
const WARN_BEFORE_EXPIRY: Duration = Duration::from_hours(90 * 24);

/// What a relay of a cluster has in addition.
pub(crate) struct Membership {
    pub(crate) registry: EtcdRegistry,
    pub(crate) cluster: Arc<Cluster>,
    /// Of the connection IDs that all relays of the cluster can read.
    pub(crate) crossing: Crossing,
    follower: Follower,
    carrying: Carrying,
}

/// The same while it runs.
pub(crate) struct Following {
    registry: JoinHandle<()>,
    cluster: Arc<Cluster>,
}

impl Membership {
    /// Opens the port for the other relays.
    ///
    /// # Errors
    /// [`BindError::Cluster`].
    pub(crate) fn open(
        config: &ClusterConfig,
        identity: &Identity,
        reservation: Duration,
        live: watch::Receiver<Live>,
    ) -> Result<Self, BindError> {
        let number = config.identity.number();
        warn_of_expiry(config.identity.not_after());
        let bind = || {
            let endpoint = endpoint(config.listen, &config.identity)?;
            let bound = endpoint.local_addr()?;
            Ok((endpoint, bound))
        };
        let (endpoint, bound) =
            bind().map_err(|source| BindError::Cluster { address: config.listen, source })?;
        let address = config.address.clone().unwrap_or_else(|| bound.into()).to_string();
        info!(relay = %number, %address, listen = %bound, "one of several relays");
        let url = config.relay_url.as_ref().map(ToString::to_string);
        let member = Member { number, address, url };
        let (registry, follower) = EtcdRegistry::new(config.etcd.clone(), member.clone(), reservation, live);
        let (packets, carrying) = Packets::new(registry.relays());
        let cluster = Arc::new(Cluster::new(member, endpoint, registry.relays(), packets.taken()));
        let strays: Arc<dyn Strays> =
            if config.forwards_packets { Arc::new(packets) } else { Arc::new(NotForwarded) };
        let format = CidFormat { rotation: Rotation::default(), protection: Protection::derived(identity) };
        let cids = ClusterCids::new(format).ok_or(BindError::ConnectionIds)?;
        let crossing = Crossing::new(number, cids, strays);
        Ok(Self { registry, cluster, crossing, follower, carrying })
    }

    /// Takes part until `ending`.
    pub(crate) fn start(self, shared: &Arc<Shared>, ending: CancellationToken) -> Following {
        let Self { registry, cluster, crossing, follower, carrying } = self;
        shared.spawn(accept::accept(shared.clone(), cluster.clone(), crossing));
        shared.spawn(carrying.run(cluster.clone(), shared.ending.clone()));
        let (draining, relay_ending) = (shared.draining.clone(), shared.ending.clone());
        shared.spawn(async move {
            if relay_ending.run_until_cancelled(draining.cancelled()).await.is_some() {
                registry.drain();
            }
        });
        Following { registry: tokio::spawn(follower.run(ending)), cluster }
    }
}

fn warn_of_expiry(not_after: SystemTime) {
    let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
    if left < WARN_BEFORE_EXPIRY {
        let expires = humantime::format_rfc3339_seconds(not_after);
        warn!(
            %expires,
            "the others will not talk to this relay any more when its certificate for the cluster has expired; make new files \
             with `converge-relay cluster join --again`"
        );
    }
}

impl Following {
    /// Waits until the others have been told.
    pub(crate) async fn ended(mut self) {
        if tokio::time::timeout(LEAVE_TIMEOUT, &mut self.registry).await.is_err() {
            warn!("the cluster's registry is not told in time that this relay has gone");
            self.registry.abort();
        }
        self.cluster.close();
    }
}

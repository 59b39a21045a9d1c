//! What a relay that is one of several runs with.

mod address;
mod etcd;

pub use address::{ClusterAddress, InvalidClusterAddress};
pub use etcd::{
    EtcdConfig, EtcdPrefix, EtcdUrl, EtcdUser, InvalidEtcdPrefix, InvalidEtcdUrl, UnusablePassword,
};

use converge_certs::cluster::ClusterIdentity;
use converge_proto::RelayUrl;
use std::net::SocketAddr;

/// A relay's place in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Its number, what the relays believe each other by, and the secret that all of them have.
    pub identity: ClusterIdentity,
    /// Where the other relays reach it, over UDP. Port 0: any that is free.
    pub listen: SocketAddr,
    /// What they are told about that; `None` is the address that `listen` is then bound to, which is not that of all
    /// interfaces.
    pub address: Option<ClusterAddress>,
    /// A URL at which agents and clients reach this relay and no other, as it was written: the pin of the certificate that
    /// relays of a cluster share is not in it.
    pub relay_url: Option<RelayUrl>,
    /// Whether UDP packets of links that live on another relay are handed to that one. Otherwise their sender is told by a
    /// stateless reset that there is no such link.
    pub forwards_packets: bool,
    /// Where the relays find each other.
    pub etcd: EtcdConfig,
}

/// Where the other relays reach a relay, unless said otherwise.
pub const LISTEN_PORT: u16 = 4434;

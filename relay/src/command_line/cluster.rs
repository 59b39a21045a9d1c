//! `[cluster]`: several relays that act as one.

use super::{group::group, values};
use crate::config::cluster::{ClusterAddress, EtcdPrefix, EtcdUrl};
use clap::Args;
use converge_proto::RelayUrl;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// `[cluster]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Cluster")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Cluster {
    /// Be one of several relays that act as one, with these files, as `converge-relay cluster join` makes them
    #[arg(long, env = "CONVERGE_CLUSTER_DIR", value_name = "DIR", hide_short_help = true)]
    pub cluster_dir: Option<PathBuf>,
    /// Where the other relays of the cluster reach this one, over UDP
    #[arg(
        long,
        env = "CONVERGE_CLUSTER_LISTEN",
        value_name = "ADDR",
        default_value = "[::]:4434",
        hide_short_help = true
    )]
    pub cluster_listen: Option<SocketAddr>,
    /// What the others are told about that: needed unless --cluster-listen is one address
    #[arg(long, env = "CONVERGE_CLUSTER_ADDRESS", value_name = "HOST:PORT", hide_short_help = true)]
    #[serde(deserialize_with = "values::from_text")]
    pub cluster_address: Option<ClusterAddress>,
    /// A URL at which people and jobs reach this relay and no other, where there is one besides --public-url
    #[arg(long, env = "CONVERGE_RELAY_URL", value_name = "URL", hide_short_help = true)]
    #[serde(deserialize_with = "values::from_text")]
    pub relay_url: Option<RelayUrl>,
    /// Whether UDP packets of a QUIC link that lives on another relay are handed to that one; else the link ends, and its
    /// peer dials again
    #[arg(
        long,
        env = "CONVERGE_CLUSTER_FORWARD_PACKETS",
        hide_short_help = true,
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "true",
        value_name = "BOOL"
    )]
    pub cluster_forward_packets: Option<bool>,
    /// Where the relays of the cluster find each other, and who has which ID: http:// or https://, several with commas
    #[arg(long, env = "CONVERGE_ETCD", value_name = "URL", value_delimiter = ',', hide_short_help = true)]
    #[serde(deserialize_with = "values::from_texts")]
    pub etcd: Option<Vec<EtcdUrl>>,
    /// What all keys there begin with; another for each cluster
    #[arg(
        long,
        env = "CONVERGE_ETCD_PREFIX",
        value_name = "PREFIX",
        default_value = "/converge/",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub etcd_prefix: Option<EtcdPrefix>,
    /// Authorities in PEM that vouch for etcd, instead of the system's
    #[arg(long, env = "CONVERGE_ETCD_CA", value_name = "FILE", hide_short_help = true)]
    pub etcd_ca: Option<PathBuf>,
    /// Certificate chain in PEM to show to etcd
    #[arg(long, env = "CONVERGE_ETCD_CERT", value_name = "FILE", hide_short_help = true)]
    pub etcd_cert: Option<PathBuf>,
    /// Private key of that certificate in PEM
    #[arg(long, env = "CONVERGE_ETCD_KEY", value_name = "FILE", hide_short_help = true)]
    pub etcd_key: Option<PathBuf>,
    /// Who to be for etcd, where it asks for a name and a password
    #[arg(long, env = "CONVERGE_ETCD_USER", value_name = "NAME", hide_short_help = true)]
    pub etcd_user: Option<String>,
    /// The file with that password, in its only line
    #[arg(long, env = "CONVERGE_ETCD_PASSWORD_FILE", value_name = "FILE", hide_short_help = true)]
    pub etcd_password_file: Option<PathBuf>,
}

group!(Cluster, "cluster", live: [], restart: [
    cluster_dir,
    cluster_listen,
    cluster_address,
    relay_url,
    cluster_forward_packets,
    etcd,
    etcd_prefix,
    etcd_ca,
    etcd_cert,
    etcd_key,
    etcd_user,
    etcd_password_file,
]);

//! `converge-relay cluster`: making the files of a cluster.

use clap::{Args, Subcommand};
use converge_proto::RelayNumber;
use std::path::PathBuf;

/// What to do with the files of a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster: its authority, its secret, and a certificate for all its relays
    ///
    /// Done once, on a machine that need not be a relay. Its directory is what `cluster join` makes relays from.
    Init(InitCluster),
    /// Make the directory of one relay, to be copied to its machine
    Join(JoinCluster),
}

/// What the cluster is to be.
#[derive(Args, Debug)]
pub struct InitCluster {
    /// Where to make it; nothing there is overwritten
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Hosts for the certificate that all relays show to people and jobs; who goes by its pin does not look at them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub names: Vec<String>,
}

/// Which relay is to join.
#[derive(Args, Debug)]
pub struct JoinCluster {
    /// The directory that `cluster init` has made
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The relay's number, 1 to 4095: another for each
    #[arg(long, value_name = "NUMBER")]
    pub number: RelayNumber,
    /// Where to make its files; nothing there is overwritten
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Make files for a relay that has had some already
    #[arg(long)]
    pub again: bool,
}

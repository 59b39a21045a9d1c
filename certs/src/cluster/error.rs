//! What is wrong with the files of a cluster, for its operator.

use crate::IdentityError;
use converge_proto::RelayNumber;
use std::path::PathBuf;

/// Why files of a cluster cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file of a relay's directory is missing or makes no sense.
    #[error("{0}; `converge-relay cluster join` makes all files of a relay, to be copied together")]
    Relay(IdentityError),
    /// A file of the cluster's own directory is missing or makes no sense.
    #[error("{0}; `converge-relay cluster init` has made the directory that relays join from")]
    Home(IdentityError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(IdentityError),
    /// A relay was started with the directory that relays join from.
    #[error(
        "{} is where the cluster was made, not the directory of a relay; make one with `converge-relay cluster join`, \
         and keep ca.key away from relays",
        directory.display()
    )]
    IsHome {
        /// Which.
        directory: PathBuf,
    },
    /// A file with a secret can be read or changed by others.
    #[error("{} is open to others (its mode is {mode:04o}); run `chmod 600 {}`", file.display(), file.display())]
    Open {
        /// Which.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The secret is not one.
    #[error("{} is not 32 bytes long; copy it again from where the cluster was made", file.display())]
    Secret {
        /// Which file.
        file: PathBuf,
    },
    /// The relay's certificate is of another cluster.
    #[error(
        "{} was not issued by the authority in {}; both are to come from the same `converge-relay cluster join`",
        file.display(), authority.display()
    )]
    OtherCluster {
        /// The relay's certificate.
        file: PathBuf,
        /// The authority's.
        authority: PathBuf,
    },
    /// The relay's certificate has expired.
    #[error(
        "{} has expired; make a new one with `converge-relay cluster join --number {number} --again`",
        file.display()
    )]
    Expired {
        /// Which.
        file: PathBuf,
        /// The relay that it is for.
        number: RelayNumber,
    },
    /// The relay's certificate will be valid later.
    #[error("{} is not valid yet; is the clock of this machine right?", file.display())]
    NotYetValid {
        /// Which.
        file: PathBuf,
    },
    /// The relay's certificate has not the one name that it must have.
    #[error(
        "{} is not the certificate of a relay of a cluster, as `converge-relay cluster join` makes them",
        file.display()
    )]
    NoNumber {
        /// Which.
        file: PathBuf,
    },
    /// Something is there that would have to be overwritten.
    #[error("{} is there already and is not overwritten; name another directory, or move it away", file.display())]
    Exists {
        /// Which.
        file: PathBuf,
    },
    /// A relay has this number.
    #[error(
        "relay {number} has its files already, as {} says; choose another number, or say --again if they are lost or \
         expire",
        file.display()
    )]
    Given {
        /// Which number.
        number: RelayNumber,
        /// A copy of its certificate.
        file: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Mint(rcgen::Error),
    /// There are no dates for certificates.
    #[error("the clock of this machine is so wrong that no certificate can be made; set it")]
    Clock,
    /// The system has no random numbers.
    #[error("the system has no random numbers for a secret")]
    Random,
}

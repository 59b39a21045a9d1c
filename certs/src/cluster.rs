//! Who the relays of a cluster are to each other.
//!
//! A cluster has an authority of its own, which vouches for nothing else. It issues one certificate for each relay, with
//! the relay's [number](RelayNumber) in its only name, `relay-N.cluster.converge`. So a relay can be no other number than
//! the one that it was given, whatever addresses it has, and whoever has no such certificate is no relay of the cluster.
//!
//! * [`init`] makes a cluster: the authority, a secret that all its relays have, and a certificate that they may all show
//!   to agents and clients, so that one pin holds for all of them.
//! * [`join`] makes the directory that is copied to the machine of one relay.
//! * [`ClusterIdentity`] is what a relay makes of that directory.
//!
//! The key of the authority is needed for [`join`] alone: it stays where the cluster was made, and no relay has it.
//!
//! One certificate serves both ends of a connection, as each relay dials and is dialed. It holds for ten years: nobody
//! renews it, since the key for that is on no relay, and a cluster that falls apart on some night is worse than one whose
//! certificates live long. It ends nevertheless, so that a machine which was forgotten in a corner, or its backup, is not
//! a relay for ever. The authority's own certificate does not expire, so that it never ends before one that it has issued.

mod error;
mod identity;
mod make;

#[cfg(test)]
mod tests;

pub use error::ClusterError;
pub use identity::ClusterIdentity;
pub use make::{Join, init, join};

use crate::certificate::{SubjectName, subject_names};
use converge_proto::RelayNumber;
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What all names of relays end with. It is in no DNS: names are compared with certificates and never resolved.
const DOMAIN: &str = "cluster.converge";

/// The certificate of the cluster's authority.
const AUTHORITY: &str = "ca.pem";
/// Its key, where the cluster was made and nowhere else.
const AUTHORITY_KEY: &str = "ca.key";
/// What all relays know, and nobody else: 32 bytes.
const SECRET: &str = "secret";
/// What all relays may show to agents and clients.
const SHARED: &str = "certificate.pem";
const SHARED_KEY: &str = "certificate.key";
/// The relay's own certificate.
const RELAY: &str = "relay.pem";
const RELAY_KEY: &str = "relay.key";
/// Holds a copy of each certificate that was issued, under the number it is for.
const GIVEN: &str = "relays";

/// The name in the certificate of this relay, which whoever dials it must ask for.
pub fn relay_name(number: RelayNumber) -> String {
    format!("relay-{number}.{DOMAIN}")
}

/// Which relay has shown this chain. It says nothing about who has issued it: ask about chains that a handshake with
/// [`ClusterIdentity`]'s configurations has let pass.
pub fn peer_number(chain: &[CertificateDer<'_>]) -> Option<RelayNumber> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let names = subject_names(&certificate);
    // With a second name it would be two relays.
    let [SubjectName::Dns(name)] = names.as_slice() else { return None };
    name.strip_suffix(DOMAIN)?.strip_suffix('.')?.strip_prefix("relay-")?.parse().ok()
}

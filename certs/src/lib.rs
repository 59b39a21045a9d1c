//! Converge's TLS: who a relay is, whom a peer trusts, and the rustls configurations made from both.
//!
//! * [`Identity`]: a relay's certificate and key, from files or self-signed and kept in the state directory; they can be
//!   replaced while it runs. A [`Certificate`] is one such pair.
//! * [`ClientAuthority`]: whose certificates a relay believes of agents.
//! * [`Trust`]: how a peer decides that a certificate is the relay's: system roots, a pin, or not at all.
//! * [`cluster`]: who the relays of a cluster are to each other.
//!
//! All of it uses one crypto provider, [`provider`], so that no two can be mixed up at run time.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod acme;
pub mod cluster;

mod certificate;
mod client_authority;
mod files;
mod identity;
mod issuer;
mod secret;
mod shown;
mod tickets;
mod trust;

pub use certificate::{Certificate, Facts, SubjectName};
pub use client_authority::{ClientAuthority, PeerCertificate};
pub use files::{create_private_directory, write_private};
pub use identity::{AWAITED_ISSUER, Identity, IdentityError};
pub use issuer::name as issuer_name;
pub use shown::ACME_TLS_ALPN;
pub use trust::{Trust, TrustConfig, TrustFailure};

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, version::TLS13};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// TLS 1.3 only, on every carrier: QUIC needs it (RFC 9001), and no peer of ours is older.
const TLS_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// The one crypto provider of all our programs: aws-lc, with the post-quantum key exchange offered first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes [`provider`] the process's default, for libraries that ask rustls for one. The first thing in `main`.
pub fn install_provider() {
    // A second call finds the provider installed already, which is what was wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo`, or `None` when the certificate cannot be read.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spki: SubjectPublicKeyInfoDer<'_> = certificate.subject_public_key_info();
    Some(Sha256::digest(&spki).into())
}

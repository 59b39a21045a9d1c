//! What a relay makes of its directory.

use super::{
    AUTHORITY, AUTHORITY_KEY, ClusterError, RELAY, RELAY_KEY, SECRET, SHARED, SHARED_KEY, peer_number,
};
use crate::{Certificate, Identity, IdentityError, TLS_VERSIONS, files::read_limited, provider};
use converge_proto::RelayNumber;
use rustls::{
    CertificateError, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{fmt, path::Path, sync::Arc, time::SystemTime};

/// A relay's place in its cluster: its number, and what it needs to be believed by the others and to believe them.
///
/// The configurations speak TLS 1.3 alone and resume no sessions, so that each connection is verified anew.
#[derive(Clone)]
pub struct ClusterIdentity {
    number: RelayNumber,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) certificate: Arc<Certificate>,
    secret: [u8; 32],
    shared: Identity,
}

/// Without the secret.
impl fmt::Debug for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterIdentity").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ClusterIdentity {
    /// Reads the directory that [`join`](super::join) has made.
    ///
    /// # Errors
    /// [`ClusterError`] names the file and what to do.
    pub fn load(directory: &Path) -> Result<Self, ClusterError> {
        Self::load_at(directory, SystemTime::now())
    }

    /// The same at another time, which the certificate must be valid at.
    pub(super) fn load_at(directory: &Path, now: SystemTime) -> Result<Self, ClusterError> {
        let file = |name: &str| directory.join(name);
        if file(AUTHORITY_KEY).exists() && !file(RELAY).exists() {
            return Err(ClusterError::IsHome { directory: directory.into() });
        }
        let roots = roots(&file(AUTHORITY)).map_err(ClusterError::Relay)?;
        let certificate =
            Certificate::from_files(&file(RELAY), &file(RELAY_KEY)).map_err(ClusterError::Relay)?;
        let number = peer_number(&certificate.certified.cert)
            .ok_or_else(|| ClusterError::NoNumber { file: file(RELAY) })?;
        let secret = read_limited(&file(SECRET)).map_err(ClusterError::Relay)?;
        let secret = secret.try_into().map_err(|_| ClusterError::Secret { file: file(SECRET) })?;
        let shared =
            Certificate::from_files(&file(SHARED), &file(SHARED_KEY)).map_err(ClusterError::Relay)?;
        for name in [RELAY_KEY, SECRET, SHARED_KEY] {
            check_private(&file(name))?;
        }
        let identity = Self {
            number,
            roots: Arc::new(roots),
            certificate: Arc::new(certificate),
            secret,
            shared: Identity::new(shared),
        };
        identity.check_issued(directory, now)?;
        Ok(identity)
    }

    /// Which relay this is.
    pub fn number(&self) -> RelayNumber {
        self.number
    }

    /// What all relays of the cluster know, and nobody else.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What all relays of the cluster may show to agents and clients: a self-signed certificate, whose pin is then the same
    /// at each of them.
    pub fn shared(&self) -> &Identity {
        &self.shared
    }

    /// When the certificate of this relay expires; the others do not talk to it afterwards.
    pub fn not_after(&self) -> SystemTime {
        self.certificate.facts().not_after
    }

    /// The configuration of the relay that is dialed: the peer must show a certificate of this cluster.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3, which ours does not, or the authority is unusable, which [`load`](Self::load)
    /// has looked at.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, rustls::Error> {
        let own = SingleCertAndKey::from(self.certificate.certified.clone());
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS_VERSIONS)?
            .with_client_cert_verifier(self.verifier()?)
            .with_cert_resolver(Arc::new(own));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The configuration of the relay that dials. It asks for the [name](super::relay_name) of the relay that it means, and
    /// no other relay of the cluster can answer in its place.
    ///
    /// # Errors
    /// As [`server_config`](Self::server_config).
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, rustls::Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let own = SingleCertAndKey::from(self.certificate.certified.clone());
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS_VERSIONS)?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::new(own));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    /// Whether the others will believe this relay: better known at its start than from their refusals.
    fn check_issued(&self, directory: &Path, now: SystemTime) -> Result<(), ClusterError> {
        let (file, authority) = (directory.join(RELAY), directory.join(AUTHORITY));
        let Some((leaf, intermediates)) = self.certificate.certified.cert.split_first() else {
            return Err(ClusterError::NoNumber { file });
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| ClusterError::Clock)?;
        let now = UnixTime::since_unix_epoch(now);
        let verified =
            self.verifier().and_then(|verifier| verifier.verify_client_cert(leaf, intermediates, now));
        match verified {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err(ClusterError::Expired { file, number: self.number }),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err(ClusterError::NotYetValid { file }),
            Err(_) => Err(ClusterError::OtherCluster { file, authority }),
        }
    }
}

fn roots(file: &Path) -> Result<RootCertStore, IdentityError> {
    let unusable = |detail: String| IdentityError::Pem { file: file.into(), detail };
    let contents = read_limited(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&contents) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(IdentityError::NoCertificate { file: file.into() }) } else { Ok(roots) }
}

/// Its owner's alone. The group may read it: secrets that Kubernetes mounts belong to root, and a relay that is not root
/// has them by its group.
#[cfg(unix)]
fn check_private(file: &Path) -> Result<(), ClusterError> {
    use std::os::unix::fs::PermissionsExt;
    /// Anything for others; writing and executing for the group.
    const TOO_MUCH: u32 = 0o037;
    let metadata = std::fs::metadata(file)
        .map_err(|source| ClusterError::Relay(IdentityError::Read { file: file.into(), source }))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & TOO_MUCH == 0 { Ok(()) } else { Err(ClusterError::Open { file: file.into(), mode }) }
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "permissions are looked at on Unix")]
fn check_private(_: &Path) -> Result<(), ClusterError> {
    Ok(())
}

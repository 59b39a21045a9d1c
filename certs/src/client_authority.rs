//! Who may vouch for agents by issuing certificates to them.

use crate::{
    IdentityError,
    certificate::{SubjectName, subject_names, time},
    files::read_limited,
    provider,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The authorities whose certificates a relay believes of its peers. A peer that shows none goes on without; one that
/// shows another's is refused in the handshake.
#[derive(Debug)]
pub struct ClientAuthority {
    file: PathBuf,
    current: RwLock<Current>,
    /// Those of the first file: the trait lends them out for ever. They keep browsers from asking people for a
    /// certificate that would not serve; agents show theirs whatever is hinted.
    hints: Vec<DistinguishedName>,
}

#[derive(Debug)]
struct Current {
    contents: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What an authority of ours has said of a peer. It held when it was looked at; see [`ClientAuthority::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its alternative names, in its own order.
    pub names: Vec<SubjectName>,
    /// The common name of its subject, where there is one.
    pub common_name: Option<String>,
    /// The SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// `common name (DNS:host URI:uri)`
impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(SubjectName::to_string).collect::<Vec<_>>().join(" ");
        write!(f, "{} ({names})", self.common_name.as_deref().unwrap_or("no common name"))
    }
}

impl ClientAuthority {
    /// The authorities in a PEM file.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn from_file(file: &Path) -> Result<Self, IdentityError> {
        let current = Current::read(file)?;
        let hints = current.verifier.root_hint_subjects().to_vec();
        Ok(Self { file: file.into(), current: RwLock::new(current), hints })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file again; whether something else is in it now.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file); what held before goes on holding.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let read = Current::read(&self.file)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.contents != read.contents;
        *current = read;
        Ok(changed)
    }

    /// What is said of a peer in the chain that it has shown, if that is still to be believed: a TLS session that was
    /// resumed has not verified it again, and the authorities may be others by now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let (leaf, intermediates) = chain.split_first()?;
        self.verifier().verify_client_cert(leaf, intermediates, UnixTime::now()).ok()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let common_name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let plain = |name: &&str| name.len() <= 256 && !name.chars().any(char::is_control);
        Some(PeerCertificate {
            names: subject_names(&parsed),
            common_name: common_name.filter(plain).map(str::to_owned),
            sha256: Sha256::digest(leaf).into(),
            not_after: time(parsed.validity().not_after.timestamp()),
        })
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).verifier.clone()
    }
}

impl Current {
    fn read(file: &Path) -> Result<Self, IdentityError> {
        let contents = read_limited(file)?;
        let unusable = |detail: String| IdentityError::Pem { file: file.into(), detail };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&contents) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(IdentityError::NoCertificate { file: file.into() });
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { contents, verifier })
    }
}

impl ClientCertVerifier for ClientAuthority {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

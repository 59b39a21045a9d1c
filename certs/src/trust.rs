//! How an agent or a client decides that a certificate is the relay's.

use crate::{
    AWAITED_ISSUER, Certificate, IdentityError, TLS_VERSIONS, files::read_limited, issuer, provider,
    spki_sha256,
};
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use subtle::ConstantTimeEq;

/// What makes a relay's certificate acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A chain to a root that this system trusts, for the relay's host name. Where the system has no roots at all,
    /// as in many containers, Mozilla's roots that were built in.
    System,
    /// Exactly this SHA-256 of the `SubjectPublicKeyInfo`; name, issuer and dates do not matter.
    Pin([u8; 32]),
    /// Anything: whoever is in between can be the relay. SSH's own host key check still holds.
    Insecure,
}

/// A rustls configuration for the dialing end, and what its verifier thought of the last certificate it saw.
///
/// Carriers report a failed verification in words of their own; [`failure`](Self::failure) has ours.
#[derive(Clone, Debug)]
pub struct TrustConfig {
    verifier: Arc<Verifier>,
    /// What is shown to a relay that asks who we are.
    shown: Option<Arc<Certificate>>,
}

impl TrustConfig {
    /// Prepares to trust as `trust` says.
    ///
    /// # Errors
    /// When the system's roots cannot be loaded in a way that the built-in ones do not make up for.
    pub fn new(trust: Trust) -> Result<Self, rustls::Error> {
        Ok(Self::of(match trust {
            Trust::System => Policy::System(system_verifier(&provider(), &[])?),
            Trust::Pin(pin) => Policy::Pin(pin),
            Trust::Insecure => Policy::AcceptAnythingInsecure,
        }))
    }

    /// Prepares to trust as [`Trust::System`] says, and these roots as well, from a PEM file.
    ///
    /// # Errors
    /// [`IdentityError`] when the file cannot be read or has no certificate in it.
    pub fn with_roots_of(file: &Path) -> Result<Self, IdentityError> {
        let unusable = |detail: String| IdentityError::Pem { file: file.into(), detail };
        let contents = read_limited(file)?;
        let roots: Vec<_> = CertificateDer::pem_slice_iter(&contents)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        if roots.is_empty() {
            return Err(IdentityError::NoCertificate { file: file.into() });
        }
        let system = system_verifier(&provider(), &roots).map_err(|error| unusable(error.to_string()))?;
        Ok(Self::of(Policy::System(system)))
    }

    fn of(policy: Policy) -> Self {
        let verifier = Verifier { policy, provider: provider(), failure: Mutex::default() };
        Self { verifier: Arc::new(verifier), shown: None }
    }

    /// Shows this certificate to relays that ask who we are; proxies and other servers never see it.
    #[must_use]
    pub fn showing(mut self, certificate: Option<Certificate>) -> Self {
        self.shown = certificate.map(Arc::new);
        self
    }

    /// The rustls configuration that asks for these ALPN protocols.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3, which ours does not.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, rustls::Error> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS_VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone());
        let mut config = match &self.shown {
            Some(shown) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.certified.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// The rustls configuration for a server that is not ours, such as a proxy: TLS 1.2 is allowed too.
    ///
    /// # Errors
    /// When the crypto provider lacks a version, which ours does not.
    pub fn foreign_client_config(&self) -> Result<rustls::ClientConfig, rustls::Error> {
        Ok(rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_no_client_auth())
    }

    /// Why the last certificate was not accepted, when that is how it was.
    pub fn failure(&self) -> Option<TrustFailure> {
        self.verifier.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustFailure {
    /// Another key than the pinned one.
    #[error("the relay's certificate has another key than the pin in its URL{}", issued_by(issuer.as_deref()))]
    WrongPin {
        /// Who has issued the certificate, by its own account: an organisation or a common name of at most 100
        /// characters. A company's name here is that of a proxy which opens TLS.
        issuer: Option<String>,
    },
    /// No chain to a trusted root, another name, or expired.
    #[error("the relay's certificate is not trusted: {why}{}", issued_by(issuer.as_deref()))]
    NotTrusted {
        /// What is wrong with it.
        why: String,
        /// As above.
        issuer: Option<String>,
    },
}

impl TrustFailure {
    /// Whether the relay says that its first certificate is on its way. Anybody in between can say so: it is a reason to try
    /// again, and for nothing else.
    pub fn awaits_certificate(&self) -> bool {
        matches!(self, Self::NotTrusted { issuer: Some(issuer), .. } if issuer == AWAITED_ISSUER)
    }

    /// What is wrong, without saying whose certificate it is.
    pub fn why(&self) -> String {
        match self {
            Self::WrongPin { issuer } => {
                format!("another key than the pinned one{}", issued_by(issuer.as_deref()))
            }
            Self::NotTrusted { why, issuer } => format!("{why}{}", issued_by(issuer.as_deref())),
        }
    }
}

fn issued_by(issuer: Option<&str>) -> String {
    issuer.map(|name| format!(" (its issuer calls itself {name:?})")).unwrap_or_default()
}

#[derive(Debug)]
struct Verifier {
    policy: Policy,
    provider: Arc<CryptoProvider>,
    failure: Mutex<Option<TrustFailure>>,
}

#[derive(Debug)]
enum Policy {
    System(Arc<dyn ServerCertVerifier>),
    Pin([u8; 32]),
    AcceptAnythingInsecure,
}

fn system_verifier(
    provider: &Arc<CryptoProvider>,
    extra: &[CertificateDer<'static>],
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let system = rustls_platform_verifier::Verifier::new_with_extra_roots;
    match system(extra.iter().cloned(), provider.clone()) {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => {
            tracing::debug!(%error, "the system has no trusted roots; using the built-in ones");
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            extra.iter().try_for_each(|root| roots.add(root.clone()))?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Ok(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let issuer = || issuer::name(end_entity);
        let outcome = match &self.policy {
            Policy::Pin(pin) => match spki_sha256(end_entity) {
                Some(seen) if bool::from(seen.ct_eq(pin)) => Ok(ServerCertVerified::assertion()),
                _ => Err((
                    TrustFailure::WrongPin { issuer: issuer() },
                    CertificateError::ApplicationVerificationFailure.into(),
                )),
            },
            Policy::System(system) => {
                system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
                    |error| (TrustFailure::NotTrusted { why: in_words(&error), issuer: issuer() }, error),
                )
            }
            Policy::AcceptAnythingInsecure => Ok(ServerCertVerified::assertion()),
        };
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.inspect(|_| *failure = None).map_err(|(reason, error)| {
            *failure = Some(reason);
            error
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody this system trusts has issued it".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(_)) => {
            "it is self-signed or malformed".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    /// Whether a handshake with an identity of ours succeeds, and what the verifier noted.
    fn handshake(trust: impl FnOnce(&Identity) -> Trust) -> (bool, Option<TrustFailure>) {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
        handshake_with(&identity, trust(&identity))
    }

    fn handshake_with(identity: &Identity, trust: Trust) -> (bool, Option<TrustFailure>) {
        let config = TrustConfig::new(trust).unwrap();
        let name = ServerName::try_from("relay.example").unwrap();
        let client = config.client_config(&[b"converge/1"]).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let server = identity.server_config(&[b"converge/1"]).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut input = &wire[..];
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut input = &wire[..];
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                if client.process_new_packets().is_err() {
                    return (false, config.failure());
                }
            }
        }
        assert_eq!(client.alpn_protocol(), Some(&b"converge/1"[..]));
        (true, config.failure())
    }

    #[test]
    fn pinned_key_is_accepted_whatever_its_name() {
        assert_eq!(handshake(|identity| Trust::Pin(identity.spki_sha256())), (true, None));
    }

    #[test]
    fn another_key_than_the_pinned_one_is_refused() {
        assert_eq!(
            handshake(|_| Trust::Pin([0; 32])),
            (false, Some(TrustFailure::WrongPin { issuer: Some("rcgen self signed cert".to_owned()) }))
        );
    }

    #[test]
    fn self_signed_certificate_is_not_trusted_by_the_system() {
        let (succeeded, failure) = handshake(|_| Trust::System);
        assert!(!succeeded);
        let Some(failure @ TrustFailure::NotTrusted { .. }) = failure else { panic!("{failure:?}") };
        assert!(
            failure.to_string().ends_with("(its issuer calls itself \"rcgen self signed cert\")"),
            "{failure}"
        );
    }

    #[test]
    fn certificate_that_is_on_its_way_is_not_trusted_and_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["relay.example".to_owned()];
        let kept = Identity::self_signed(directory.path(), &names).unwrap();
        let identity = Identity::awaiting(directory.path(), &names).unwrap();
        assert_eq!(identity.spki_sha256(), kept.spki_sha256(), "it is of the same key");
        let facts = identity.current().facts().clone();
        assert!(facts.self_signed && facts.covers(&names), "{facts:?}");
        let (succeeded, failure) = handshake_with(&identity, Trust::System);
        assert!(!succeeded && failure.unwrap().awaits_certificate());
        let (_, failure) = handshake_with(&kept, Trust::System);
        assert!(!failure.unwrap().awaits_certificate());
        let again = Identity::self_signed(directory.path(), &names).unwrap();
        assert!(again.current().is_same(&kept.current()), "nothing of it is kept");
    }

    #[test]
    fn insecure_accepts_anything() {
        assert_eq!(handshake(|_| Trust::Insecure), (true, None));
    }
}

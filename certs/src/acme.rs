//! What is made for an ACME server: requests for certificates, and certificates that prove a domain leads here.

use crate::{IdentityError, provider};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::sync::Arc;

/// A request for a certificate, with a new key.
#[derive(Debug)]
pub struct SigningRequest {
    /// PKCS #10 ([RFC 2986](https://www.rfc-editor.org/rfc/rfc2986)), in DER.
    pub der: Vec<u8>,
    /// The private key, in PEM.
    pub key_pem: String,
}

impl SigningRequest {
    /// A request for these host names.
    ///
    /// # Errors
    /// When one of them cannot be in a certificate.
    pub fn new(domains: &[String]) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::new(domains).map_err(IdentityError::Mint)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().map_err(IdentityError::Mint)?;
        let request = params.serialize_request(&key).map_err(IdentityError::Mint)?;
        Ok(Self { der: request.der().to_vec(), key_pem: key.serialize_pem() })
    }
}

/// The certificate that proves to an ACME server that a domain leads here. It serves nothing else.
#[derive(Debug)]
pub struct Proof {
    pub(crate) domain: String,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl Proof {
    /// Self-signed, for this domain alone, with the digest of what the server wants to see in it (RFC 8737 section 3).
    ///
    /// # Errors
    /// When the domain cannot be in a certificate.
    pub fn new(domain: &str, digest: &[u8; 32]) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::new([domain.to_owned()]).map_err(IdentityError::Mint)?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(IdentityError::Mint)?;
        let certificate = params.self_signed(&key).map_err(IdentityError::Mint)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        // Not compared with the certificate: rustls reads none with critical extensions that it does not know.
        let key = provider().key_provider.load_private_key(key.into()).map_err(IdentityError::Proof)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key));
        Ok(Self { domain: domain.to_ascii_lowercase(), certified })
    }
}

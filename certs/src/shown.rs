//! The certificate that acceptors show at this moment.

use crate::{Certificate, acme::Proof};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// The ALPN protocol of a handshake in which an ACME server asks for proof (RFC 8737 section 6.2).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// What every handshake asks for its certificate: QUIC's and TCP's alike, so that both change at once.
#[derive(Debug)]
pub(crate) struct Shown {
    current: RwLock<Arc<Certificate>>,
    /// Certificates that prove to an ACME server that a domain leads here. At most one for each domain of an order.
    proofs: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Shown {
    pub(crate) fn new(certificate: Certificate) -> Self {
        Self { current: RwLock::new(Arc::new(certificate)), proofs: Mutex::default() }
    }

    pub(crate) fn current(&self) -> Arc<Certificate> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, certificate: Certificate) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
    }

    pub(crate) fn prove(&self, proof: Proof) {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.insert(proof.domain, proof.certified);
    }

    pub(crate) fn forget_proofs(&self) {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut alpn = hello.alpn().into_iter().flatten();
        // An ACME server offers this protocol and no other (RFC 8737 section 3). Nothing else is for it to see.
        let asks_for_proof = alpn.next() == Some(ACME_TLS_ALPN) && alpn.next().is_none();
        if !asks_for_proof {
            return Some(self.current().certified.clone());
        }
        let domain = hello.server_name()?.to_ascii_lowercase();
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.get(&domain).cloned()
    }
}

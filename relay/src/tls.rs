//! The relay's certificate over time: files that are renewed, certificates that are ordered, and a warning before one
//! expires. What is shown at each moment is the [`Identity`]'s; everything here only changes that.

pub mod acme;
pub mod files;

mod expiry;
mod watch;

use crate::shared::Shared;
use acme::{AcmeSettings, HttpProofs};
use converge_certs::{Certificate, Identity, PeerCertificate};
use files::CertificateFiles;
use rustls::pki_types::CertificateDer;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tracing::info;

/// How long browsers remember that this host is reached with TLS only, unless said otherwise: half a year.
pub const HSTS: Duration = Duration::from_hours(24 * 180);

/// Where the relay's certificate comes from, and so who renews it.
#[derive(Debug, Default)]
pub enum Source {
    /// It stays as long as the relay runs. So it is with the self-signed one.
    #[default]
    Kept,
    /// Whoever writes these files.
    Files(CertificateFiles),
    /// An ACME server.
    Acme(AcmeSettings),
}

/// What the relay's tasks share about its TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    identity: Identity,
    source: Source,
    hsts: Duration,
    /// What ACME servers may ask for over HTTP.
    pub(crate) http_proofs: HttpProofs,
}

impl Tls {
    pub(crate) fn new(identity: Identity, source: Source, hsts: Duration) -> Self {
        Self { identity, source, hsts, http_proofs: HttpProofs::default() }
    }

    /// What the peer's certificate says of it, when an authority that this relay believes has issued it.
    pub(crate) fn peer_certificate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Option<Arc<PeerCertificate>> {
        self.identity.client_authority()?.verify(chain?).map(Arc::new)
    }

    /// For how long browsers are to insist on TLS: not at all where an exception had to be made for a certificate that
    /// nobody has issued, for then there is none to be made any more.
    pub(crate) fn hsts(&self) -> Option<Duration> {
        let issued = !self.identity.current().facts().self_signed;
        (issued && !self.hsts.is_zero()).then_some(self.hsts)
    }

    /// When the certificate that is shown now expires, and how long it is valid in all.
    pub(crate) fn validity(&self) -> (SystemTime, Duration) {
        let current = self.identity.current();
        (current.facts().not_after, current.facts().lifetime())
    }

    /// The ALPN protocols of the TCP port, which are also how an ACME server asks for proof.
    pub(crate) fn alpn(&self, https: &[&'static [u8]]) -> Vec<&'static [u8]> {
        let proofs = matches!(self.source, Source::Acme(_)).then_some(converge_certs::ACME_TLS_ALPN);
        https.iter().copied().chain(proofs).collect()
    }

    /// New handshakes get this certificate from now on.
    fn replace(&self, certificate: Certificate) {
        let facts = certificate.facts();
        info!(
            names = %facts.names.join(" "),
            not_after = %date(facts.not_after),
            "new connections get another certificate from now on"
        );
        self.identity.replace(certificate);
    }
}

/// Looks after the certificate until the relay ends.
pub(crate) async fn look_after(shared: Arc<Shared>) {
    let tls = &shared.tls;
    // Boxed: an order is long, and this task waits for it on most days.
    let certificate = Box::pin(async {
        match &tls.source {
            Source::Kept => {}
            Source::Files(files) => files::follow(tls, files).await,
            Source::Acme(settings) => acme::renew(tls, settings).await,
        }
    });
    let authority = async {
        if let Some(authority) = tls.identity.client_authority() {
            files::follow_authority(authority).await;
        }
    };
    let all = async { tokio::join!(certificate, authority, expiry::warn_in_time(tls)) };
    shared.ending.run_until_cancelled(all).await;
}

/// As people and logs read it.
fn date(time: SystemTime) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    match write!(text, "{}", humantime::format_rfc3339_seconds(time)) {
        Ok(()) => text,
        Err(_) => "a date beyond year 9999".to_owned(),
    }
}

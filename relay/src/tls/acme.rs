//! Certificates ordered from an ACME server ([RFC 8555](https://www.rfc-editor.org/rfc/rfc8555)), such as Let's Encrypt.
//!
//! The server wants to see that each domain leads here: in a TLS handshake of its own on the shared TCP port (TLS-ALPN-01,
//! RFC 8737), or in a file on the cleartext listener (HTTP-01). Until the first certificate is there the relay shows a
//! self-signed one, so that there is something to answer with. A certificate is renewed when two thirds of its life are
//! over; account and certificate are kept in the state directory.

mod http;
mod order;
mod schedule;
mod settings;
mod store;

pub use order::OrderError;
pub use settings::{AcmeSettings, Challenge, InvalidAcmeSettings, LETS_ENCRYPT};

use super::Tls;
use order::Ordering;
use schedule::Schedule;
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use store::Store;
use tracing::{info, warn};

/// A machine that was asleep, or whose clock was set, notices after this long at most that it is time.
const MAX_SLEEP: Duration = Duration::from_mins(10);

/// The certificate that was kept from before, if it is for these domains.
pub fn kept(settings: &AcmeSettings) -> Option<converge_certs::Certificate> {
    let store = Store::of(settings);
    let certificate = store
        .certificate()
        .inspect_err(|error| warn!(%error, "the kept certificate cannot be used; another one is ordered"))
        .ok()??;
    certificate.facts().covers(&settings.domains).then_some(certificate)
}

/// Orders certificates when it is time, until cancelled.
pub(super) async fn renew(tls: &Tls, settings: &AcmeSettings) {
    let store = Store::of(settings);
    let mut schedule = Schedule::new();
    loop {
        let current = tls.identity.current();
        let due = if is_ordered(tls, settings) {
            schedule.renewal(current.facts())
        } else {
            SystemTime::UNIX_EPOCH
        };
        sleep_until(due).await;
        let outcome = Ordering { tls, settings, store: &store }.certificate().await;
        tls.identity.forget_proofs();
        tls.http_proofs.clear();
        match outcome {
            Ok(certificate) => {
                info!(directory = %settings.directory, "the ACME server has issued a certificate");
                schedule.succeeded();
                let due = schedule.renewal(certificate.facts());
                tls.replace(certificate);
                if due <= SystemTime::now() {
                    let pause = schedule.failed();
                    warn!(
                        "two thirds of the new certificate's life are over already; check this machine's clock"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
            Err(error) => {
                let pause = schedule.failed();
                let again = humantime::format_duration(Duration::from_secs(pause.as_secs()));
                warn!(directory = %settings.directory, %error, "no certificate from the ACME server; trying again in {again}");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Whether what is shown now came from an order for these domains, and not from here.
fn is_ordered(tls: &Tls, settings: &AcmeSettings) -> bool {
    let current = tls.identity.current();
    !current.facts().self_signed && current.facts().covers(&settings.domains)
}

async fn sleep_until(time: SystemTime) {
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(MAX_SLEEP)).await;
    }
}

/// What ACME servers may ask for at `/.well-known/acme-challenge/TOKEN` (RFC 8555 section 8.3): by token, for as long as
/// an order is in progress.
#[derive(Default)]
pub(crate) struct HttpProofs(Mutex<HashMap<String, String>>);

impl HttpProofs {
    pub(crate) fn get(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    fn insert(&self, token: &str, proof: &str) {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.insert(token.to_owned(), proof.to_owned());
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for HttpProofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpProofs")
    }
}

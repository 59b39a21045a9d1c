//! One order, from the account to the certificate.

use super::{super::Tls, AcmeSettings, Challenge, http::DirectClient, store::Store};
use converge_certs::{
    Certificate, IdentityError, Trust, TrustConfig,
    acme::{Proof, SigningRequest},
};
use converge_transport::ProxyChoice;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use std::time::Duration;
use tracing::{debug, info, warn};

/// For the whole of an order.
const TIME_LIMIT: Duration = Duration::from_mins(10);
/// How often the server is asked whether it is done, and for how long.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_mins(2));
const UNKNOWN_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why an order has brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No way to the server, or it says no.
    #[error("{}", in_words(.0))]
    Server(#[from] instant_acme::Error),
    /// It was not satisfied with what it found.
    #[error("{domain} is not proven to lead here: {detail}; {advice}")]
    NotProven {
        /// The domain.
        domain: String,
        /// What the server says.
        detail: String,
        /// What to look at.
        advice: &'static str,
    },
    /// It wants another proof.
    #[error("the server does not offer {challenge} for {domain}; see --acme-challenge")]
    NoChallenge {
        /// The domain.
        domain: String,
        /// What was wanted.
        challenge: Challenge,
    },
    /// A file, a name, or what the server has sent.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate is for others.
    #[error("the server has issued a certificate for other names: {0}")]
    OtherNames(String),
    /// Nothing moves any more.
    #[error("not done within {} minutes", TIME_LIMIT.as_secs() / 60)]
    Slow,
}

/// The library's texts say "API error" for a problem that the server describes.
fn in_words(error: &instant_acme::Error) -> String {
    match error {
        instant_acme::Error::Api(problem) => words_of(problem),
        other => other.to_string(),
    }
}

fn words_of(problem: &instant_acme::Problem) -> String {
    let kind =
        problem.r#type.as_deref().unwrap_or_default().trim_start_matches("urn:ietf:params:acme:error:");
    let detail = problem.detail.as_deref().unwrap_or("no details");
    let text = if kind.is_empty() { detail.to_owned() } else { format!("{detail} ({kind})") };
    // It is somebody else's text, and goes to a log.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// An order in progress.
pub(super) struct Ordering<'a> {
    pub(super) tls: &'a Tls,
    pub(super) settings: &'a AcmeSettings,
    pub(super) store: &'a Store,
}

impl Ordering<'_> {
    /// Orders, and keeps what comes of it.
    pub(super) async fn certificate(&self) -> Result<Certificate, OrderError> {
        let ordering = tokio::time::timeout(TIME_LIMIT, self.order());
        ordering.await.unwrap_or(Err(OrderError::Slow))
    }

    async fn order(&self) -> Result<Certificate, OrderError> {
        let mut order = match self.begin().await {
            Err(OrderError::Server(instant_acme::Error::Api(problem)))
                if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT) =>
            {
                warn!("the ACME server does not know our account any more; making another one");
                // When it cannot be removed, the next try says so.
                let _ = self.store.forget_account();
                self.begin().await?
            }
            order => order?,
        };
        self.prove(&mut order).await?;
        let request = SigningRequest::new(&self.settings.domains)?;
        order.finalize_csr(&request.der).await?;
        let chain = order.poll_certificate(&POLLING).await?;
        self.store.keep_certificate(&chain, &request.key_pem, &self.settings.domains)
    }

    async fn begin(&self) -> Result<Order, OrderError> {
        let account = self.account().await?;
        let domains: Vec<_> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        Ok(account.new_order(&NewOrder::new(&domains)).await?)
    }

    /// The kept account, or a new one.
    async fn account(&self) -> Result<Account, OrderError> {
        let trust = match &self.settings.ca_file {
            Some(file) => TrustConfig::with_roots_of(file)?,
            None => TrustConfig::new(Trust::System)
                .map_err(|error| instant_acme::Error::Other(Box::new(error)))?,
        };
        let proxy = ProxyChoice::from_environment();
        let builder = Account::builder_with_http(Box::new(DirectClient { trust, proxy }));
        let kept = self.store.account().map(|kept| serde_json::from_slice::<AccountCredentials>(&kept));
        match kept {
            Some(Ok(kept)) => return Ok(builder.from_credentials(kept).await?),
            Some(Err(error)) => warn!(%error, "the kept ACME account cannot be read; making another one"),
            None => {}
        }
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<_> = contact.as_deref().into_iter().collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, self.settings.directory.clone(), None).await?;
        let credentials = serde_json::to_vec(&credentials).map_err(instant_acme::Error::Json)?;
        self.store.keep_account(&credentials)?;
        info!(directory = %self.settings.directory, "made an account with the ACME server");
        Ok(account)
    }

    /// Has the server look at every domain that it wants to look at.
    async fn prove(&self, order: &mut Order) -> Result<(), OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let Identifier::Dns(domain) = authorization.identifier().identifier.clone() else { continue };
            if authorization.status != AuthorizationStatus::Pending {
                debug!(%domain, status = ?authorization.status, "needs no proof");
                continue;
            }
            let challenge = self.settings.challenge;
            let kind = match challenge {
                Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
                Challenge::Http01 => ChallengeType::Http01,
            };
            let Some(mut handle) = authorization.challenge(kind) else {
                return Err(OrderError::NoChallenge { domain, challenge });
            };
            let proof = handle.key_authorization();
            match challenge {
                Challenge::TlsAlpn01 => {
                    let digest = proof.digest();
                    let digest = <&[u8; 32]>::try_from(digest.as_ref()).unwrap_or(&[0; 32]);
                    self.tls.identity.prove(Proof::new(&domain, digest)?);
                }
                Challenge::Http01 => self.tls.http_proofs.insert(&handle.token, proof.as_str()),
            }
            debug!(%domain, %challenge, "ready to be looked at");
            handle.set_ready().await?;
        }
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) => Err(self.refusal(order).await.unwrap_or(OrderError::Slow)),
            Err(error) => Err(self.refusal(order).await.unwrap_or(error.into())),
        }
    }

    /// What the server did not like, which it says of each domain.
    async fn refusal(&self, order: &mut Order) -> Option<OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let state = authorization.refresh().await.ok()?;
            let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            let Some(detail) = problem.map(words_of) else { continue };
            let Identifier::Dns(domain) = authorization.identifier().identifier.clone() else { continue };
            let advice = match self.settings.challenge {
                Challenge::TlsAlpn01 => "port 443 of that name must lead to this relay's TCP port",
                Challenge::Http01 => "port 80 of that name must lead to this relay's --http listener",
            };
            return Some(OrderError::NotProven { domain, detail, advice });
        }
        None
    }
}

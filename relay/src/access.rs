//! Who may use the relay.
//!
//! [`Access::check`] is the one question, asked of agents, clients, the API, metrics and pages alike: may a peer with
//! these credentials, from this network, do this? The answer is a [`Grant`], or a [`Refusal`] in words for the peer.
//! What the operator wants is in [`AccessSettings`] and may change at any time.
//!
//! * Networks first: they cost nothing.
//! * A token of the relay's own ([`tokens`]) is looked up by its hash. Right ones are never slowed; wrong ones are
//!   answered late when too many come from one network.
//! * Anything that looks like a JWT is verified as a CI system's ([`oidc`]).

pub mod claims;
pub mod create;
pub mod credentials;
mod glob;
pub mod id_pattern;
pub mod oidc;
pub mod refusal;
pub mod scope;
pub mod settings;
mod slow_down;
pub mod tokens;

pub use claims::Claims;
pub use credentials::Credentials;
pub use id_pattern::IdPattern;
pub use refusal::Refusal;
pub use scope::{Scope, Scopes};
pub use settings::{AccessSettings, Auth};

use crate::config::Live;
use converge_proto::{Id, rendezvous::Token};
use oidc::IssuerKeys;
use slow_down::SlowDown;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What a peer was let in by, and what it may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The name of the relay's token, if it was one.
    pub token: Option<String>,
    /// What a CI system has said and signed, if it was that.
    pub claims: Option<Claims>,
    /// The IDs that it is for; without it any.
    pub ids: Option<IdPattern>,
}

impl Grant {
    /// The one ID that it is for, when there is only one: a reservation.
    pub fn only_id(&self) -> Option<Id> {
        self.ids.as_ref().and_then(IdPattern::only)
    }

    /// Whether it is for this ID.
    ///
    /// # Errors
    /// [`Refusal::Id`].
    pub fn admit(&self, id: &Id) -> Result<(), Refusal> {
        match &self.ids {
            Some(pattern) if !pattern.matches(id) => {
                Err(Refusal::Id { id: id.clone(), pattern: pattern.clone() })
            }
            _ => Ok(()),
        }
    }

    /// A random ID that it is for.
    pub fn generate_id(&self) -> Id {
        let id = Id::generate(rand::random());
        self.ids.as_ref().and_then(|pattern| pattern.fill(&id)).unwrap_or(id)
    }
}

/// The relay's door. Holds what is learnt while it runs; what the operator wants is asked for each time.
#[derive(Debug)]
pub struct Access {
    live: watch::Receiver<Live>,
    /// The longest that a check may take.
    timeout: Duration,
    slow_down: SlowDown,
    keys: IssuerKeys,
    /// How often the answer was no, by scope and [`Refusal::label`].
    refused: Mutex<BTreeMap<(Scope, &'static str), u64>>,
}

impl Access {
    /// A door that takes at most `timeout` to say yes or no.
    pub fn new(live: watch::Receiver<Live>, timeout: Duration) -> Self {
        let (slow_down, keys) = (SlowDown::default(), IssuerKeys::default());
        Self { live, timeout, slow_down, keys, refused: Mutex::default() }
    }

    /// How often the answer was no since the relay has started: what was wanted, one of a few words for why, and the
    /// number.
    pub fn refused(&self) -> Vec<(Scope, &'static str, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().map(|((scope, why), count)| (*scope, *why, *count)).collect()
    }

    /// What the operator wants now. Who is in already stays in when it changes.
    pub fn settings(&self) -> Arc<AccessSettings> {
        self.live.borrow().access.clone()
    }

    /// Whether peers may come from there for this, whatever they show.
    ///
    /// # Errors
    /// [`Refusal::Network`].
    pub fn check_network(&self, scope: Scope, peer: IpAddr) -> Result<(), Refusal> {
        self.counted(scope, self.network(scope, peer))
    }

    /// Whether what was granted for this is for that ID.
    ///
    /// # Errors
    /// [`Refusal::Id`].
    pub fn admit(&self, scope: Scope, grant: &Grant, id: &Id) -> Result<(), Refusal> {
        self.counted(scope, grant.admit(id))
    }

    fn counted<T>(&self, scope: Scope, checked: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &checked {
            debug_assert!(Refusal::LABELS.contains(&refusal.label()), "{} is no label", refusal.label());
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused.entry((scope, refusal.label())).or_default() += 1;
        }
        checked
    }

    fn network(&self, scope: Scope, peer: IpAddr) -> Result<(), Refusal> {
        let settings = self.settings();
        let networks = settings.networks(scope);
        if networks.is_empty() || networks.iter().any(|network| network.contains(&peer)) {
            Ok(())
        } else {
            Err(Refusal::Network { scope, peer })
        }
    }

    /// Whether a peer may. Metrics and pages ask only where the operator wants a token for them.
    ///
    /// Cancel-safe. Takes as long as it takes to fetch an issuer's keys at most, and no longer than the relay waits for
    /// a first word.
    ///
    /// # Errors
    /// [`Refusal`], in words for the peer.
    pub async fn check(
        &self,
        scope: Scope,
        credentials: &Credentials,
        peer: IpAddr,
    ) -> Result<Grant, Refusal> {
        self.counted(scope, self.check_uncounted(scope, credentials, peer).await)
    }

    async fn check_uncounted(
        &self,
        scope: Scope,
        credentials: &Credentials,
        peer: IpAddr,
    ) -> Result<Grant, Refusal> {
        self.network(scope, peer)?;
        let settings = self.settings();
        if settings.auth(scope) == Auth::None {
            return Ok(Grant::default());
        }
        let Some(token) = &credentials.token else { return Err(Refusal::NoToken { scope }) };
        let checking = tokio::time::timeout(self.timeout, self.check_token(&settings, scope, token));
        let checked = checking
            .await
            .unwrap_or_else(|_| Err(Refusal::Unavailable("the check of the token took too long".to_owned())));
        if let Err(refusal) = &checked
            && refusal.is_a_wrong_token()
        {
            self.slow_down.wrong_token(peer).await;
        }
        checked
    }

    async fn check_token(
        &self,
        settings: &AccessSettings,
        scope: Scope,
        token: &Token,
    ) -> Result<Grant, Refusal> {
        if oidc::looks_like_one(token) {
            let claims = oidc::verify(settings, &self.keys, token, scope, SystemTime::now()).await?;
            return Ok(claims);
        }
        let from_file = match &settings.tokens_file {
            Some(file) => file.current().await,
            None => Arc::default(),
        };
        let all = settings.tokens.iter().chain(from_file.iter());
        tokens::find(token, all, scope, SystemTime::now())
    }
}

#[cfg(test)]
mod tests;

//! The keys of issuers: fetched when they are needed, kept, and fetched again when they change.
//!
//! * Keys are fetched at most once in [`RETRY`] for each issuer, whatever strangers send.
//! * A fetch is a task of its own: a peer that goes away does not end what others wait for.
//! * Keys that are there are used while newer ones are fetched, and for [`KEEP`] while the issuer is away.

use super::fetch;
use converge_transport::ProxyChoice;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

/// The shortest time between two fetches from one issuer.
const RETRY: Duration = Duration::from_secs(30);
/// Older keys are fetched again in the background: how long a key that was withdrawn is still good.
const REFRESH: Duration = Duration::from_mins(30);
/// How long keys are used while the issuer cannot be reached.
const KEEP: Duration = Duration::from_hours(24);

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeySource {
    pub(super) issuer: String,
    pub(super) jwks_url: Option<String>,
}

/// The keys of every issuer that has been asked for.
#[derive(Debug, Default)]
pub struct IssuerKeys {
    /// As many as there are entries in the configuration, over its changes.
    issuers: Mutex<HashMap<KeySource, Arc<Issuer>>>,
}

/// Whether there is a key.
pub(super) enum Lookup {
    /// Here it is.
    Found(Box<DecodingKey>),
    /// The issuer has no such key.
    Unknown,
    /// It cannot be known at the moment, and why.
    Unavailable(String),
}

#[derive(Debug)]
struct Issuer {
    source: KeySource,
    state: Mutex<State>,
    /// How many fetches have ended.
    fetched: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Jwk>,
    /// When these keys came.
    since: Option<Instant>,
    /// When the last fetch began.
    tried: Option<Instant>,
    /// What the last one met.
    trouble: Option<String>,
    fetching: Option<AbortOnDropHandle<()>>,
}

impl IssuerKeys {
    /// The key of this ID for this algorithm. Waits for a fetch when there is hope in one. Cancel-safe.
    pub(super) async fn find(&self, source: &KeySource, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        let issuer = self.issuer(source);
        let mut fetched = issuer.fetched.subscribe();
        let mut has_waited = false;
        loop {
            let found = issuer.look(id, algorithm, has_waited);
            match found {
                Look::Answer(lookup) => return lookup,
                Look::Wait => {
                    has_waited = true;
                    // The sender lives as long as `issuer`.
                    let _ = fetched.changed().await;
                }
            }
        }
    }

    /// With keys that need not be fetched.
    #[cfg(test)]
    pub(super) fn with(source: &KeySource, keys: Vec<Jwk>) -> Self {
        let all = Self::default();
        let issuer = all.issuer(source);
        let now = Some(Instant::now());
        *issuer.state() = State { keys, since: now, tried: now, ..State::default() };
        all
    }

    fn issuer(&self, source: &KeySource) -> Arc<Issuer> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let issuer = issuers.entry(source.clone()).or_insert_with(|| {
            Arc::new(Issuer {
                source: source.clone(),
                state: Mutex::default(),
                fetched: watch::Sender::new(0),
            })
        });
        issuer.clone()
    }
}

enum Look {
    Answer(Lookup),
    Wait,
}

impl Issuer {
    fn look(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm, has_waited: bool) -> Look {
        let mut state = self.state();
        let age = state.since.map(|since| since.elapsed());
        let key = if age.is_some_and(|age| age < KEEP) { find(&state.keys, id, algorithm) } else { None };
        let may_fetch = state.fetching.is_none() && state.tried.is_none_or(|tried| tried.elapsed() >= RETRY);
        if may_fetch && (key.is_none() || age.is_none_or(|age| age > REFRESH)) {
            state.tried = Some(Instant::now());
            let issuer = self.clone();
            state.fetching = Some(AbortOnDropHandle::new(tokio::spawn(async move { issuer.fetch().await })));
        }
        Look::Answer(match (key, &state.trouble) {
            (Some(key), _) => Lookup::Found(Box::new(key)),
            (None, _) if state.fetching.is_some() => return Look::Wait,
            (None, Some(trouble)) => Lookup::Unavailable(trouble.clone()),
            // It was asked after the token came.
            (None, None) if has_waited => Lookup::Unknown,
            (None, None) => Lookup::Unavailable(format!(
                "{} has no such key yet; its keys were fetched a moment ago, and will be again",
                self.source.issuer
            )),
        })
    }

    async fn fetch(self: Arc<Self>) {
        let proxy = ProxyChoice::from_environment();
        let result = fetch::keys(&self.source, &proxy).await;
        let mut state = self.state();
        match result {
            Ok(keys) => {
                debug!(issuer = %self.source.issuer, keys = keys.len(), "keys fetched");
                (state.keys, state.since, state.trouble) = (keys, Some(Instant::now()), None);
            }
            Err(error) => {
                warn!(issuer = %self.source.issuer, %error, "cannot fetch the keys of an issuer");
                state.trouble =
                    Some(format!("the keys of {} cannot be fetched: {error}", self.source.issuer));
            }
        }
        // This very task; dropping its handle does nothing to it any more but end it, and it ends.
        if let Some(handle) = state.fetching.take() {
            handle.detach();
        }
        drop(state);
        self.fetched.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of this ID, or the only one when the token names none. Keys for encryption and shared secrets are no keys.
fn find(keys: &[Jwk], id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let mut fitting = keys.iter().filter(|key| {
        let is_for_signatures =
            key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        let is_public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
        // Two types, one spelling.
        let own = key.common.key_algorithm.map(|own| format!("{own:?}"));
        let has_algorithm = own.is_none_or(|own| own == format!("{algorithm:?}"));
        let has_id = id.is_none() || key.common.key_id.as_deref() == id;
        is_for_signatures && is_public && has_algorithm && has_id
    });
    let key = fitting.next()?;
    // Which of several is meant, the token must say.
    if id.is_none() && fitting.next().is_some() {
        return None;
    }
    DecodingKey::from_jwk(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(values: &[serde_json::Value]) -> Vec<Jwk> {
        values.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    #[test]
    fn only_public_keys_for_the_right_signatures_are_found() {
        let ed = |id: &str| json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let secret = json!({"kty": "oct", "kid": "s", "k": "AAAA"});
        let mut encryption = ed("e");
        encryption["use"] = json!("enc");
        let all = keys(&[ed("a"), ed("b"), secret, encryption]);
        assert!(find(&all, Some("a"), Algorithm::EdDSA).is_some());
        assert!(find(&all, Some("a"), Algorithm::RS256).is_none(), "another algorithm");
        assert!(find(&all, Some("s"), Algorithm::EdDSA).is_none(), "a shared secret");
        assert!(find(&all, Some("s"), Algorithm::HS256).is_none(), "a shared secret");
        assert!(find(&all, Some("e"), Algorithm::EdDSA).is_none(), "for encryption");
        assert!(find(&all, Some("c"), Algorithm::EdDSA).is_none());
        assert!(find(&all, None, Algorithm::EdDSA).is_none(), "which?");
        assert!(find(&all[..1], None, Algorithm::EdDSA).is_some());
    }
}

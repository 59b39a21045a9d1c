//! The keys of issuers: fetched when they are needed, kept, and fetched again when they change.
//!
//! * Keys are fetched at most once in [`RETRY`] for each issuer, whatever strangers send.
//! * A fetch is a task of its own: a peer that goes away does not end what others wait for.
//! * Keys that are there are used while newer ones are fetched, and for [`KEEP`] while the issuer is away.
//! * A key is unknown when it was not among those that were asked for after the token had come. Until then it cannot be told.

use super::fetch::{self, FetchError};
use converge_transport::ProxyChoice;
use futures_util::future::BoxFuture;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
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
    fetch: Fetch,
}

/// How keys come here.
#[derive(Clone)]
struct Fetch(Arc<dyn Fn(KeySource) -> Fetching + Send + Sync>);

type Fetching = BoxFuture<'static, Result<Vec<Jwk>, FetchError>>;

impl Default for Fetch {
    fn default() -> Self {
        Self(Arc::new(|source| {
            Box::pin(async move { fetch::keys(&source, &ProxyChoice::from_environment()).await })
        }))
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
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
    fetch: Fetch,
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
        let came = Instant::now();
        loop {
            match issuer.look(id, algorithm, came) {
                Look::Answer(lookup) => return lookup,
                // The sender lives as long as `issuer`.
                Look::Wait => _ = fetched.changed().await,
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
                fetch: self.fetch.clone(),
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
    fn look(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm, came: Instant) -> Look {
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
            (None, None) if state.tried.is_some_and(|tried| tried >= came) => Lookup::Unknown,
            (None, None) => Lookup::Unavailable(format!(
                "{} has no such key yet; its keys were fetched a moment ago, and will be again",
                self.source.issuer
            )),
        })
    }

    async fn fetch(self: Arc<Self>) {
        let result = (self.fetch.0)(self.source.clone()).await;
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn keys(values: &[serde_json::Value]) -> Vec<Jwk> {
        values.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    fn ed(id: &str) -> serde_json::Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    #[test]
    fn only_public_keys_for_the_right_signatures_are_found() {
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

    /// An issuer that takes a moment for each answer, and those who ask for its keys.
    struct World {
        all: IssuerKeys,
        source: KeySource,
        listed: Arc<Mutex<Option<Vec<&'static str>>>>,
        fetches: Arc<AtomicUsize>,
    }

    /// What came of a token, in a word.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Came {
        Found,
        Unknown,
        Unavailable,
    }
    use Came::{Found, Unavailable, Unknown};

    impl World {
        fn new(listed: &[&'static str]) -> Self {
            let listed = Arc::new(Mutex::new(Some(listed.to_vec())));
            let fetches = Arc::new(AtomicUsize::new(0));
            let (state, count) = (listed.clone(), fetches.clone());
            let fetch = Fetch(Arc::new(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                let state = state.clone();
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let listed = state.lock().unwrap().clone().ok_or(FetchError::Slow)?;
                    Ok(keys(&listed.into_iter().map(ed).collect::<Vec<_>>()))
                })
            }));
            let source = KeySource { issuer: "https://ci.example".to_owned(), jwks_url: None };
            let all = IssuerKeys { fetch, ..IssuerKeys::default() };
            Self { all, source, listed, fetches }
        }

        /// From now on; nothing is listed by an issuer that is away.
        fn lists(&self, listed: Option<&[&'static str]>) {
            *self.listed.lock().unwrap() = listed.map(<[_]>::to_vec);
        }

        async fn look(&self, id: &str) -> Came {
            match self.all.find(&self.source, Some(id), Algorithm::EdDSA).await {
                Lookup::Found(_) => Found,
                Lookup::Unknown => Unknown,
                Lookup::Unavailable(why) => {
                    assert!(why.contains("https://ci.example"), "{why}");
                    Unavailable
                }
            }
        }

        /// The same of many at once, who all hear the same.
        async fn look_at_once(&self, id: &str) -> Came {
            let came = futures_util::future::join_all((0..100).map(|_| self.look(id))).await;
            assert!(came.iter().all(|one| *one == came[0]), "{came:?}");
            came[0]
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_key_is_fetched_once_and_the_old_one_is_good_while_it_is_listed() {
        let world = World::new(&["old"]);
        assert_eq!((world.look_at_once("old").await, world.fetches()), (Found, 1));
        world.lists(Some(&["old", "new"]));
        assert_eq!(
            (world.look_at_once("new").await, world.fetches()),
            (Unavailable, 1),
            "too soon to ask again"
        );
        assert_eq!(world.look("old").await, Found);
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look_at_once("new").await, world.fetches()), (Found, 2));
        assert_eq!((world.look_at_once("old").await, world.fetches()), (Found, 2));

        // It is withdrawn: at the next fetch nobody is let in by it any more.
        world.lists(Some(&["new"]));
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look_at_once("made-up").await, world.fetches()), (Unknown, 3));
        assert_eq!((world.look_at_once("old").await, world.fetches()), (Unavailable, 3));
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look_at_once("old").await, world.fetches()), (Unknown, 4));
        assert_eq!((world.look_at_once("new").await, world.fetches()), (Found, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn withdrawn_key_is_refused_half_an_hour_later_without_anything_new_coming() {
        let world = World::new(&["old"]);
        assert_eq!(world.look("old").await, Found);
        world.lists(Some(&["new"]));
        tokio::time::advance(REFRESH).await;
        assert_eq!((world.look("old").await, world.fetches()), (Found, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(world.look_at_once("old").await, Found, "nobody waits for the fetch that it causes");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((world.look("old").await, world.fetches()), (Unavailable, 2));
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look("old").await, world.fetches()), (Unknown, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn issuer_that_is_away_is_asked_once_by_all_and_its_keys_are_kept_for_a_while() {
        let world = World::new(&[]);
        world.lists(None);
        assert_eq!((world.look_at_once("a").await, world.fetches()), (Unavailable, 1));
        assert_eq!((world.look_at_once("a").await, world.fetches()), (Unavailable, 1), "at once");
        world.lists(Some(&["a"]));
        assert_eq!((world.look("a").await, world.fetches()), (Unavailable, 1));
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look_at_once("a").await, world.fetches()), (Found, 2));

        world.lists(None);
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look_at_once("b").await, world.fetches()), (Unavailable, 3));
        assert_eq!((world.look_at_once("a").await, world.fetches()), (Found, 3));
        tokio::time::advance(KEEP).await;
        assert_eq!((world.look_at_once("a").await, world.fetches()), (Unavailable, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn token_that_comes_during_a_fetch_may_be_of_a_newer_key() {
        let world = World::new(&["old"]);
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.look("new").await
        };
        assert_eq!(tokio::join!(world.look("old"), late), (Found, Unavailable));
        tokio::time::advance(RETRY).await;
        assert_eq!((world.look("new").await, world.fetches()), (Unknown, 2));
    }
}

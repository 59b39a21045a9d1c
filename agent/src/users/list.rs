//! Fetched lists that are kept up to date.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use converge_transport::ProxyChoice;
use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::fetch::{FetchError, FetchSettings, fetch};
use super::source::ListSource;
use crate::users::authorized_keys::{Found, KeyList};

/// Whatever the settings say, a server is not asked again without any pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// All lists that are fetched. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct FetchedLists {
    lists: Arc<[FetchedList]>,
    proxy: Arc<ProxyChoice>,
    settings: Arc<FetchSettings>,
}

/// One of them.
#[derive(Debug)]
struct FetchedList {
    source: ListSource,
    state: Mutex<State>,
    /// Held while it is fetched: others wait for the outcome instead of fetching it too.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    tried: Option<Instant>,
    /// The last good list, and when it was that.
    list: Option<(Instant, Arc<KeyList>)>,
    trouble: Option<FetchError>,
    /// Said already that the last good list is too old.
    is_given_up: bool,
}

impl FetchedLists {
    pub(super) fn new(sources: Vec<ListSource>, proxy: ProxyChoice, settings: FetchSettings) -> Self {
        let lists = sources.into_iter().map(|source| FetchedList {
            source,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        });
        Self { lists: lists.collect(), proxy: Arc::new(proxy), settings: Arc::new(settings) }
    }

    /// For the first time.
    pub(super) async fn fetch_all(&self) {
        join_all(self.lists.iter().map(|list| self.fetch_unless(list, Duration::ZERO))).await;
    }

    /// Because of a key that is on no list. `false` when all have been tried a short time ago and nothing was fetched.
    pub(super) async fn fetch_again(&self) -> bool {
        let fetching = self.lists.iter().map(|list| self.fetch_unless(list, self.settings.retry));
        join_all(fetching).await.contains(&true)
    }

    /// For ever.
    pub(super) async fn keep_up_to_date(self) {
        join_all(self.lists.iter().map(|list| async {
            loop {
                let pause = if list.has_trouble() { self.settings.retry } else { self.settings.refresh };
                let pause = pause.max(SHORTEST_PAUSE);
                let due = list.tried().map_or_else(Instant::now, |tried| tried + pause);
                tokio::time::sleep_until(due).await;
                self.fetch_unless(list, pause).await;
            }
        }))
        .await;
    }

    /// Fetches a list that was not tried within `pause`; `true` when there is an outcome that the caller has not seen.
    async fn fetch_unless(&self, list: &FetchedList, pause: Duration) -> bool {
        let asked = Instant::now();
        let _turn = list.turn.lock().await;
        match list.tried() {
            // Somebody else's outcome, while we waited for our turn.
            Some(tried) if tried > asked => return true,
            Some(tried) if tried.elapsed() < pause => return false,
            _ => {}
        }
        let outcome = fetch(&list.source, &self.proxy, &self.settings).await;
        list.note(outcome, self.settings.keep);
        true
    }

    /// The lists that may be used now.
    pub(super) fn current(&self) -> impl Iterator<Item = Arc<KeyList>> + '_ {
        self.lists.iter().filter_map(|list| list.current(self.settings.keep))
    }

    /// What all lists that may be used say about a key.
    pub(super) fn find(&self, find: impl Fn(&KeyList) -> Found) -> Found {
        let mut all = Found::default();
        for list in self.current() {
            let found = find(&list);
            all.entries.extend(found.entries);
            all.problems.extend(found.problems);
        }
        all
    }

    /// How the last try went, for each list.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (String, Result<Arc<KeyList>, FetchError>)> + '_ {
        self.lists.iter().map(|list| {
            let state = list.lock();
            let outcome = match &state.trouble {
                Some(trouble) => Err(trouble.clone()),
                None => Ok(state.list.as_ref().map(|(_, list)| list.clone()).unwrap_or_default()),
            };
            (list.source.to_string(), outcome)
        })
    }
}

impl FetchedList {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried(&self) -> Option<Instant> {
        self.lock().tried
    }

    fn has_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    fn current(&self, keep: Duration) -> Option<Arc<KeyList>> {
        let state = self.lock();
        state.list.as_ref().filter(|(fetched, _)| fetched.elapsed() < keep).map(|(_, list)| list.clone())
    }

    /// Logs what changes: a server that is away for an hour is one line, not sixty.
    fn note(&self, outcome: Result<KeyList, FetchError>, keep: Duration) {
        let mut state = self.lock();
        let now = Instant::now();
        // The first outcome is told by the report.
        let is_first = state.tried.replace(now).is_none();
        let list = &self.source;
        match outcome {
            Ok(keys) => {
                if state.trouble.take().is_some() {
                    info!(%list, "the list of keys is there again");
                }
                debug!(%list, keys = keys.entries().len(), "the list of keys was fetched");
                state.list = Some((now, Arc::new(keys)));
                state.is_given_up = false;
            }
            Err(error) => {
                let is_new = state.trouble.as_ref().is_none_or(|last| last.to_string() != error.to_string());
                if is_first || !is_new {
                    debug!(%list, %error, "the list of keys cannot be fetched");
                } else if error.is_gone() {
                    warn!(%list, %error, "the list of keys is gone, and none of its keys may log in");
                } else if state.list.is_none() {
                    warn!(%list, %error, "the list of keys cannot be fetched");
                } else {
                    warn!(%list, %error, "the list of keys cannot be fetched again; the last one is used for a while");
                }
                if error.is_gone() {
                    state.list = None;
                }
                state.trouble = Some(error);
                let is_old = state.list.as_ref().is_some_and(|(fetched, _)| fetched.elapsed() >= keep);
                if is_old && !state.is_given_up {
                    state.is_given_up = true;
                    warn!(%list, "the last list of keys is too old, and none of its keys may log in");
                }
            }
        }
    }
}

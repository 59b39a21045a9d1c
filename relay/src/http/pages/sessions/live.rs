//! The page of sessions as it changes, as server-sent events.
//!
//! One task looks at the board once a second, as long as anybody watches; each browser is told what of that is in its
//! window. So a browser hears something at most once a second, and a second without news costs it nothing. Another task asks
//! the other relays of a cluster, once for all browsers.

use super::{
    board::Snapshot,
    gate,
    others::{self, POLL},
    row::Shows,
    unix_now,
    view::View,
    whole::{Around, Whole},
    window::{Update, Window},
};
use crate::{
    accept::refusal,
    http::{Connection, pages::PagesSettings},
    limits::Stay,
    shared::Shared,
};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, Uri, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use converge_proto::RelayNumber;
use futures_util::{Stream, stream};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};

/// How often a browser is told something.
const TICK: Duration = Duration::from_secs(1);
/// Proxies cut connections on which nothing happens; most after a minute, some after half of one.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Then the browser comes again: whoever may not watch any more finds out, and tabs nobody looks at are few.
const MAX_TIME: Duration = Duration::from_hours(1);
/// When a browser tries again after its connection has ended.
const RETRY: Duration = Duration::from_secs(2);

/// Who watches, and what there is to see.
#[derive(Debug)]
pub(crate) struct Live {
    whole: Mutex<Whole>,
    ticks: watch::Sender<u64>,
    somebody: Notify,
    somebody_for_others: Notify,
    /// Held while the other relays are asked, with when they have been the last time: whoever waits for it need not ask.
    pub(super) asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Live {
    pub(crate) fn new(settings: &PagesSettings, relay: Option<RelayNumber>) -> Self {
        Self {
            whole: Mutex::new(Whole::new(Shows::new(settings), relay)),
            ticks: watch::Sender::new(0),
            somebody: Notify::new(),
            somebody_for_others: Notify::new(),
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// Browsers that watch now.
    pub(crate) fn watching(&self) -> usize {
        self.ticks.receiver_count()
    }

    /// Everything as it is now.
    pub(super) fn look(&self, shared: &Shared) -> Snapshot {
        let around = shared.cluster.as_ref().map(|cluster| Around {
            me: cluster.me(),
            is_draining: shared.draining.is_cancelled(),
            has_registry: shared.registry.is_up(),
            others: cluster.health().into_iter().map(|one| (one.relay, one.entry.draining)).collect(),
        });
        self.whole().look(&shared.directory, around.as_ref())
    }

    /// The last state, without a look at the directory.
    fn latest(&self) -> Snapshot {
        self.whole().latest()
    }

    pub(super) fn whole(&self) -> MutexGuard<'_, Whole> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps browsers up to date until the relay drains.
    pub(crate) async fn run(&self, shared: &Shared) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticking = async {
            loop {
                if self.ticks.receiver_count() == 0 {
                    self.somebody.notified().await;
                }
                interval.tick().await;
                let version = self.look(shared).version;
                self.ticks.send_if_modified(|told| std::mem::replace(told, version) != version);
            }
        };
        let asking = async {
            if shared.cluster.is_none() {
                return;
            }
            loop {
                if self.ticks.receiver_count() == 0 {
                    self.somebody_for_others.notified().await;
                }
                others::ask_lately(shared).await;
                tokio::time::sleep(POLL).await;
            }
        };
        shared.draining.run_until_cancelled(async { tokio::join!(ticking, asking) }).await;
    }
}

/// `/sessions/live`, with the query of the page that watches.
pub(in crate::http) async fn live(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = gate::check(&shared, &connection, &headers).await {
        return *refusal;
    }
    let stay = match shared.gate.watch(connection.peer.address.ip()) {
        Ok(stay) => stay,
        Err(refused) => return refusal::response(refused),
    };
    // Subscribed before the first look, so that nothing falls between the two.
    let ticks = shared.pages.live.ticks.subscribe();
    shared.pages.live.somebody.notify_one();
    shared.pages.live.somebody_for_others.notify_one();
    others::ask_lately(&shared).await;
    shared.pages.live.look(&shared);
    let browser = Browser {
        window: Window::new(View::parse(uri.query().unwrap_or_default())),
        is_new: true,
        ticks,
        until: Instant::now() + MAX_TIME,
        shared,
        _stay: stay,
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        // nginx would keep events until it has enough of them.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    (headers, Sse::new(browser.events()).keep_alive(heartbeat)).into_response()
}

/// A browser that watches.
struct Browser {
    window: Window,
    is_new: bool,
    ticks: watch::Receiver<u64>,
    until: Instant,
    shared: Arc<Shared>,
    _stay: Stay,
}

impl Browser {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, async |mut browser| {
            let event = browser.next().await?;
            Some((Ok(event), browser))
        })
    }

    /// The next event; `None` when it is to come again, or not at all.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::take(&mut self.is_new) {
                tokio::select! {
                    biased; // A relay that stops has nothing to show.
                    () = self.shared.draining.cancelled() => return None,
                    () = tokio::time::sleep_until(self.until) => return None,
                    changed = self.ticks.changed() => changed.ok()?,
                }
            }
            if let Some(update) = self.window.look(&self.shared.pages.live.latest(), unix_now()) {
                return event(&update);
            }
        }
    }
}

fn event(update: &Update) -> Option<Event> {
    Some(Event::default().retry(RETRY).data(serde_json::to_string(update).ok()?))
}

//! The page of sessions as it changes, as server-sent events.
//!
//! One task looks at the board once a second, as long as anybody watches; each browser is told what of that is in its
//! window. So a browser hears something at most once a second, and a second without news costs it nothing.

use super::{
    board::{Board, Snapshot},
    gate,
    row::Shows,
    unix_now,
    view::View,
    window::{Update, Window},
};
use crate::{
    accept::refusal,
    directory::Directory,
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
use futures_util::{Stream, stream};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

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
    board: Mutex<Board>,
    ticks: watch::Sender<u64>,
    somebody: Notify,
}

impl Live {
    pub(crate) fn new(settings: &PagesSettings) -> Self {
        Self {
            board: Mutex::new(Board::new(Shows::new(settings))),
            ticks: watch::Sender::new(0),
            somebody: Notify::new(),
        }
    }

    /// Browsers that watch now.
    pub(crate) fn watching(&self) -> usize {
        self.ticks.receiver_count()
    }

    /// Everything as it is now.
    pub(super) fn look(&self, directory: &Directory) -> Snapshot {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).look(directory)
    }

    /// The board's last state, without a look at the directory.
    fn latest(&self) -> Snapshot {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).latest()
    }

    /// Keeps browsers up to date until `end`.
    pub(crate) async fn run(&self, directory: &Directory, end: &CancellationToken) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticking = async {
            loop {
                if self.ticks.receiver_count() == 0 {
                    self.somebody.notified().await;
                }
                interval.tick().await;
                let version = self.look(directory).version;
                self.ticks.send_if_modified(|told| std::mem::replace(told, version) != version);
            }
        };
        end.run_until_cancelled(ticking).await;
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
    shared.pages.live.look(&shared.directory);
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

//! What the other relays of the cluster have on their boards: asked as long as somebody looks, once for all who do.

use super::{
    relays::SaidOfItself,
    row::{Row, Shows},
    rows::{Known, Rows},
    whole::Versions,
};
use crate::{
    cluster::{
        Cluster,
        ask::{self, OnBehalf, Question},
    },
    shared::Shared,
};
use bytes::Bytes;
use converge_proto::{Id, RelayNumber};
use futures_util::future::join_all;
use http::{Method, StatusCode};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::debug;

/// How often the others are asked while browsers watch.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// What is not older is recent enough for a page that is opened.
const RECENT: Duration = Duration::from_secs(1);
/// How long an answer may take: somebody may be waiting for the page.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the rows of a relay that does not answer are shown on.
const KEEP: Duration = Duration::from_secs(10);
/// Rows of one relay that are kept. There are no more agents at one.
const MAX_ROWS: usize = 100_000;

/// The boards of the others, as this relay knows them.
#[derive(Debug)]
pub(super) struct Others {
    shows: Shows,
    relays: BTreeMap<RelayNumber, Other>,
    versions: Versions,
}

#[derive(Debug, Default)]
struct Other {
    known: Known,
    rows: BTreeMap<Id, Arc<Row>>,
    /// What it has said last, and when.
    said: Option<(SaidOfItself, Instant)>,
    /// Whether it has not answered since.
    is_silent: bool,
}

impl Others {
    pub(super) fn new(shows: Shows) -> Self {
        Self { shows, relays: BTreeMap::new(), versions: Versions { version: 0, layout: 0 } }
    }

    pub(super) fn versions(&self) -> Versions {
        self.versions
    }

    /// All rows that are shown.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.relays.values().flat_map(|other| other.rows.values())
    }

    /// Sessions with the agents of these rows.
    pub(super) fn sessions(&self) -> usize {
        let shown = self.relays.values().filter(|other| !other.rows.is_empty());
        shown.filter_map(|other| other.said).map(|(said, _)| said.sessions).sum()
    }

    /// What a relay says of itself; nothing when it does not answer.
    pub(super) fn said(&self, relay: RelayNumber) -> Option<SaidOfItself> {
        let other = self.relays.get(&relay).filter(|other| !other.is_silent)?;
        other.said.map(|(said, _)| said)
    }

    /// How much is known of its board.
    pub(super) fn known(&self, relay: RelayNumber) -> Known {
        self.relays.get(&relay).map_or_else(Known::default, |other| other.known)
    }

    /// Forgets all relays but these.
    pub(super) fn keep(&mut self, relays: &[RelayNumber]) {
        let before = self.relays.len();
        self.relays.retain(|relay, _| relays.contains(relay));
        if self.relays.len() != before {
            self.changed(true);
        }
    }

    /// Takes over what a relay has told. Returns whether it has more to tell.
    pub(super) fn hear(&mut self, relay: RelayNumber, told: Rows, now: Instant) -> bool {
        let shows = self.shows;
        let other = self.relays.entry(relay).or_default();
        let (mut has_changed, mut has_layout) = (false, false);
        if told.run != other.known.run {
            other.known = Known { run: told.run, ..Known::default() };
        }
        for said in told.changed {
            let row = Row::from_elsewhere(said, shows, relay);
            let before = other.rows.get(&row.id);
            if before.is_some_and(|before| before.is_like(&row)) {
                continue;
            }
            if before.is_none() && other.rows.len() >= MAX_ROWS {
                continue;
            }
            has_changed = true;
            has_layout |= before.is_none_or(|before| !before.is_found_like(&row));
            other.rows.insert(row.id.clone(), Arc::new(row));
        }
        if let Some(order) = told.order {
            let there: BTreeSet<_> = order.iter().map(String::as_str).collect();
            let before = other.rows.len();
            other.rows.retain(|id, _| there.contains(id.as_str()));
            has_layout |= other.rows.len() != before;
            other.known.layout = told.layout;
        }
        other.known.stamp = told.stamp;
        let said = SaidOfItself { jobs: told.jobs, sessions: told.sessions, has_registry: told.has_registry };
        has_changed |= other.said.is_none_or(|(before, _)| before != said);
        (other.said, other.is_silent) = (Some((said, now)), false);
        if has_changed || has_layout {
            self.changed(has_layout);
        }
        told.has_more
    }

    /// A relay has not answered. What it has told is shown on for a while: it may only be busy.
    pub(super) fn miss(&mut self, relay: RelayNumber, now: Instant) {
        let other = self.relays.entry(relay).or_default();
        other.is_silent = true;
        let is_old = other.said.is_none_or(|(_, at)| now.duration_since(at) >= KEEP);
        if is_old && !other.rows.is_empty() {
            *other = Other { is_silent: true, ..Other::default() };
            self.changed(true);
        }
    }

    fn changed(&mut self, has_layout: bool) {
        self.versions.version += 1;
        if has_layout {
            self.versions.layout += 1;
        }
    }
}

/// Asks all others, unless that has just been done. Who comes while it is being done waits for it.
pub(super) async fn ask_lately(shared: &Shared) {
    let Some(cluster) = &shared.cluster else { return };
    let live = &shared.pages.live;
    let mut asked = live.asked.lock().await;
    if asked.is_some_and(|at| at.elapsed() < RECENT) {
        return;
    }
    let relays = cluster.others();
    live.whole().others.keep(&relays);
    join_all(relays.into_iter().map(|relay| ask_one(shared, cluster, relay))).await;
    *asked = Some(Instant::now());
}

async fn ask_one(shared: &Shared, cluster: &Arc<Cluster>, relay: RelayNumber) {
    let live = &shared.pages.live;
    let until = Instant::now() + TIMEOUT;
    // What does not fit into this look is in the next one.
    while let limit = until.saturating_duration_since(Instant::now())
        && !limit.is_zero()
    {
        let known = live.whole().others.known(relay);
        let has_more = match ask_for_rows(cluster, relay, known, limit).await {
            Ok(rows) => live.whole().others.hear(relay, rows, Instant::now()),
            Err(why) => {
                debug!(%relay, why, "the page of sessions is without another relay's news");
                return live.whole().others.miss(relay, Instant::now());
            }
        };
        if !has_more {
            return;
        }
    }
}

async fn ask_for_rows(
    cluster: &Arc<Cluster>,
    relay: RelayNumber,
    known: Known,
    limit: Duration,
) -> Result<Rows, String> {
    let Known { run, stamp, layout } = known;
    let path = format!("/rows?run={run}&stamp={stamp}&layout={layout}");
    let path = path.parse().map_err(|_| "it has no path".to_owned())?;
    // Who may see the page sees all of it.
    let on_behalf = OnBehalf::default();
    let question = Question { on_behalf, method: Method::GET, path, body: Bytes::new(), limit };
    let answer = ask::ask(cluster, relay, question).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers {}", answer.status()));
    }
    serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
}

//! What one browser shows, and the difference to what it is to show next.

use super::{
    board::Snapshot,
    row::Row,
    view::{Shown, View},
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};

/// A browser's view, and what it has been told so far.
#[derive(Debug)]
pub(super) struct Window {
    view: View,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    version: u64,
    layout: u64,
    shown: Shown,
    summary: String,
    relays: String,
    pager: String,
}

/// What a browser is told. What is not there has not changed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Update {
    /// The IDs of all rows, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<String>>,
    /// New and changed rows, by ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relays: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pager: Option<String>,
}

impl Window {
    /// Of a browser that has been told nothing.
    pub(super) fn new(view: View) -> Self {
        Self { view, told: None }
    }

    /// What the browser is to be told: everything the first time, then what has changed in its window.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: u64) -> Option<Update> {
        if self.told.as_ref().is_some_and(|told| told.version == snapshot.version) {
            return None;
        }
        let shown = self.shown(snapshot);
        let (summary, pager) = (shown.summary(snapshot), shown.pager(&self.view));
        let relays = Shown::relays(snapshot);
        let before = self.told.take();
        let known: HashMap<_, _> =
            before.iter().flat_map(|told| &told.shown.rows).map(|row| (&row.id, row)).collect();
        let is_new = |row: &&Arc<Row>| known.get(&row.id).is_none_or(|known| !Arc::ptr_eq(known, row));
        let html = |row: &Arc<Row>| (row.id.to_string(), row.live_html(snapshot.shows, now).to_owned());
        let ids = |rows: &[Arc<Row>]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        let order = ids(&shown.rows);
        let has_order = before.as_ref().is_some_and(|told| ids(&told.shown.rows) == order);
        let update = Update {
            order: (!has_order).then(|| order.iter().map(ToString::to_string).collect()),
            rows: shown.rows.iter().filter(is_new).map(html).collect(),
            summary: before.as_ref().is_none_or(|told| told.summary != summary).then(|| summary.clone()),
            relays: before
                .as_ref()
                .map_or(!relays.is_empty(), |told| told.relays != relays)
                .then(|| relays.clone()),
            pager: before.as_ref().is_none_or(|told| told.pager != pager).then(|| pager.clone()),
        };
        let (version, layout) = (snapshot.version, snapshot.layout);
        self.told = Some(Told { version, layout, shown, summary, relays, pager });
        (update != Update::default()).then_some(update)
    }

    /// Searches only when what is found may be others; else the same rows in their present state.
    fn shown(&self, snapshot: &Snapshot) -> Shown {
        let same = self.told.as_ref().filter(|told| told.layout == snapshot.layout);
        let Some(told) = same else { return self.view.of(snapshot) };
        let Shown { rows, matching, page, pages } = &told.shown;
        let now = |row: &Arc<Row>| {
            let place = snapshot.rows.binary_search_by(|other| other.id.cmp(&row.id)).ok();
            place.and_then(|place| snapshot.rows.get(place)).unwrap_or(row).clone()
        };
        Shown { rows: rows.iter().map(now).collect(), matching: *matching, page: *page, pages: *pages }
    }
}

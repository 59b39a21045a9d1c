//! What one relay tells another of its board: the rows that have changed since it was last asked.

use super::row::Said;
use crate::{http::pages::SessionsPage, shared::Shared};
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How much of a board is known to another relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::http) struct Known {
    /// Of which run of the relay.
    pub(super) run: u64,
    /// The last row.
    pub(super) stamp: u64,
    /// Which rows there are; 0: not known.
    pub(super) layout: u64,
}

/// What is new.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) run: u64,
    /// Up to which row this tells.
    pub(super) stamp: u64,
    pub(super) layout: u64,
    /// Whether there are more new rows, to be asked for at once.
    pub(super) has_more: bool,
    /// The IDs of all rows; nothing when they are known.
    pub(super) order: Option<Vec<String>>,
    /// New and changed rows.
    pub(super) changed: Vec<Said>,
    pub(super) jobs: usize,
    pub(super) sessions: usize,
    pub(super) has_registry: bool,
}

/// `/rows`, for other relays only. They ask for nobody whom they have not let in to their own page.
pub(in crate::http) async fn rows(State(shared): State<Arc<Shared>>, Query(known): Query<Known>) -> Response {
    if shared.pages.settings.sessions_page == SessionsPage::Off {
        return (StatusCode::NOT_FOUND, "this relay does not show its sessions\n").into_response();
    }
    let has_registry = shared.registry.is_up();
    Json(shared.pages.live.whole().tell(&shared.directory, known, has_registry)).into_response()
}

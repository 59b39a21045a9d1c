//! Who is here: a page, and what keeps it live.
//!
//! A [`Board`](board::Board) follows the directory and has a row for each agent, without anything that is hidden. A page
//! is a [`View`] of it, for one request or, as a [`Window`](window::Window), for as long as a browser looks.
//!
//! Where several relays act as one, each has its board, and asks the others for theirs as long as somebody looks
//! ([`others`]). What a page shows is all of them together ([`whole`]).

mod board;
mod gate;
mod live;
mod others;
mod relays;
mod row;
mod rows;
mod view;
mod whole;
mod window;

pub(crate) use live::Live;
pub(in crate::http) use live::live;
pub(in crate::http) use rows::rows;

use super::{Layout, page};
use crate::{http::Connection, shared::Shared};
use askama::Template;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use row::Shows;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use view::{Shown, View};

#[derive(Template)]
#[template(path = "sessions.html")]
struct Sessions {
    layout: Layout,
    view: View,
    shows: Shows,
    summary: String,
    relays: String,
    rows: Vec<String>,
    pager: String,
}

/// `/sessions`
pub(in crate::http) async fn sessions(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = gate::check(&shared, &connection, &headers).await {
        return *refusal;
    }
    let view = View::parse(uri.query().unwrap_or_default());
    others::ask_lately(&shared).await;
    let snapshot = shared.pages.live.look(&shared);
    let (shows, now) = (snapshot.shows, unix_now());
    let window = view.of(&snapshot);
    page(&Sessions {
        layout: Layout::new(&shared, "/sessions", "Sessions"),
        summary: window.summary(&snapshot),
        relays: Shown::relays(&snapshot),
        rows: window.rows.iter().map(|row| row.html(shows, now)).collect(),
        pager: window.pager(&view),
        view,
        shows,
    })
}

fn unix_now() -> u64 {
    unix(SystemTime::now())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;

//! The pages, from `templates/`: what this is, the commands to copy, who is here.
//!
//! Every page works without scripts; what scripts add is in `assets/`. Links are relative, so that a proxy may serve the
//! relay below any path.

mod about;
mod agent;
mod downloads;
mod layout;
mod sessions;
mod settings;
mod size;
mod usage;
mod words;

pub(super) use about::about;
pub(super) use agent::agent;
pub(super) use downloads::downloads;
pub(super) use sessions::{live, rows, sessions};
pub(super) use usage::usage;
pub(super) use words::{for_browsers, nowhere};

pub use settings::{HiddenField, PagesSettings, SessionsPage, UnknownField};
pub(crate) use usage::InstallLines;

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use converge_proto::RelayNumber;
use layout::Layout;
use sessions::Live;

/// What a page says is true for a moment. (What browsers must not do with it is said of everything: `http::headers`.)
const NOT_KEPT: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// What pages need of the relay, beside its directory.
#[derive(Debug)]
pub(crate) struct Pages {
    /// What the operator wants.
    settings: PagesSettings,
    /// The page of sessions, as it changes.
    pub(crate) live: Live,
}

impl Pages {
    /// For this relay, which is one of several where it has a number.
    pub(crate) fn new(settings: PagesSettings, relay: Option<RelayNumber>) -> Self {
        Self { live: Live::new(&settings, relay), settings }
    }
}

fn page(template: &impl Template) -> Response {
    let Ok(html) = template.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    ([NOT_KEPT], Html(html)).into_response()
}

/// Whether a person is looking.
fn is_browser(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("text/html"))
}

//! The start page: what this is, and why to trust it.

use super::{Layout, page};
use crate::shared::Shared;
use askama::Template;
use axum::{extract::State, response::Response};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "about.html")]
struct About {
    layout: Layout,
    relay: String,
}

/// `/`
pub(in crate::http) async fn about(State(shared): State<Arc<Shared>>) -> Response {
    page(&About { layout: Layout::new(&shared, "/", "About"), relay: shared.shown_url().to_string() })
}

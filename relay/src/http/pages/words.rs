//! Refusals. Whoever refuses does so in a line of plain text; for people with a browser it becomes a page.

use super::{Layout, NOT_KEPT, is_browser};
use crate::shared::Shared;
use askama::Template;
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Refusals are a line.
const MAX_BYTES: usize = 4096;

#[derive(Template)]
#[template(path = "words.html")]
struct Words {
    layout: Layout,
    status: u16,
    title: &'static str,
    text: String,
}

/// What there is where nothing is.
pub(in crate::http) async fn nowhere() -> Response {
    (StatusCode::NOT_FOUND, "there is no such page on this relay\n").into_response()
}

/// Makes a page of a refusal in plain text, when a browser has asked.
pub(in crate::http) async fn for_browsers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if !is_browser(request.headers()) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_refusal || !is_text {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(words) = to_bytes(body, MAX_BYTES).await else { return status.into_response() };
    let text = String::from_utf8_lossy(&words).trim().to_owned();
    let layout = Layout::new(&shared, &path, "");
    let Ok(html) = (Words { layout, status: status.as_u16(), title: title(status), text }).render() else {
        return status.into_response();
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.extend([NOT_KEPT]);
    Response::from_parts(parts, Body::from(html))
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing here",
        StatusCode::UNAUTHORIZED => "A token is needed",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too much at once",
        StatusCode::SERVICE_UNAVAILABLE => "Not at the moment",
        status if status.is_server_error() => "Something went wrong here",
        _ => "That makes no sense",
    }
}

//! Headers of every answer: what a browser must not do with it.

use super::Connection;
use crate::shared::Shared;
use axum::{
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::Response,
};
use converge_proto::RelayUrl;
use std::sync::Arc;

/// Scripts, styles, pictures and connections of this relay only, none of them inside a page; no frames around it. That
/// pages need no more than this is a rule for whoever writes them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // As `frame-ancestors`, for what does not know that.
    (X_FRAME_OPTIONS, "DENY"),
    // Addresses of agents are in the paths of pages.
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Adds them where a handler has not said otherwise.
pub(super) async fn add(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let over_tls = request.extensions().get::<Connection>().is_some_and(|connection| connection.over_tls);
    let mut response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Where TLS ends before us, the public URL tells that it does; without TLS browsers ignore the header (RFC 6797
    // section 8.1).
    let reached_over_tls = over_tls || shared.public_url.as_ref().is_some_and(RelayUrl::has_tls);
    if let Some(time) = shared.tls.hsts().filter(|_| reached_over_tls) {
        let value = HeaderValue::from_str(&format!("max-age={}", time.as_secs()));
        headers.extend(value.ok().map(|value| (STRICT_TRANSPORT_SECURITY, value)));
    }
    response
}

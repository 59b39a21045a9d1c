//! The pages, from `templates/`.

use crate::shared::Shared;
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use converge_proto::{Address, HostKey};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    relay: String,
}

#[derive(Template)]
#[template(path = "agent.html")]
struct Agent {
    address: String,
    id: String,
    websocket: String,
    /// `-k ` where the certificate is self-signed: the tool knows no pin, and ssh checks better what it would check.
    unchecked: &'static str,
    /// The agent's host key for ssh, when the agent is here.
    host_key: Option<String>,
}

/// What this is, and the commands to copy.
pub(super) async fn home(State(shared): State<Arc<Shared>>) -> Response {
    page(&Home { relay: shared.shown_url().to_string() })
}

/// What a browser sees at an agent's address: the commands for this one agent.
pub(super) fn agent(shared: &Shared, address: &Address) -> Response {
    let relay = shared.shown_url();
    let here = shared.registry.find(&address.id).map(|agent| agent.verified.host_key.clone());
    // An address without a fingerprint is completed; a wrong one stays as it is and is found out by the client.
    let fingerprint = address.fingerprint.clone().or_else(|| here.as_ref().map(HostKey::fingerprint));
    let path = format!("{}/{}", Address::CLIENT_PATH, address.id);
    page(&Agent {
        address: Address { relay: Some(relay.clone()), fingerprint, id: address.id.clone() }.to_string(),
        id: address.id.to_string(),
        websocket: relay.with_scheme(relay.websocket_scheme(), &path),
        unchecked: if relay.pin().is_some() { "-k " } else { "" },
        host_key: here.map(|key| key.to_openssh()),
    })
}

fn page(template: &impl Template) -> Response {
    let Ok(html) = template.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Html(html)).into_response()
}

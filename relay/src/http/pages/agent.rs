//! What a browser sees at an agent's address: the commands for this one agent.

use super::{Layout, page};
use crate::shared::Shared;
use askama::Template;
use axum::response::Response;
use converge_proto::{Address, HostKey};

#[derive(Template)]
#[template(path = "agent.html")]
struct Agent {
    layout: Layout,
    address: String,
    id: String,
    websocket: String,
    /// `-k ` where the certificate is self-signed: the tool knows no pin, and ssh checks better what it would check.
    unchecked: &'static str,
    /// The agent's host key for ssh, when the agent is here.
    host_key: Option<String>,
}

/// `/client/ADDRESS`, when it is not a WebSocket that is to be opened.
pub(in crate::http) fn agent(shared: &Shared, address: &Address) -> Response {
    let relay = shared.shown_url();
    let here = shared.registry.host_key(&address.id);
    // An address without a fingerprint is completed; a wrong one stays as it is and is found out by the client.
    let fingerprint = address.fingerprint.clone().or_else(|| here.as_ref().map(HostKey::fingerprint));
    let path = format!("{}/{}", Address::CLIENT_PATH, address.id);
    page(&Agent {
        layout: Layout::new(shared, "/client/", ""),
        address: Address { relay: Some(relay.clone()), fingerprint, id: address.id.clone() }.to_string(),
        id: address.id.to_string(),
        websocket: relay.with_scheme(relay.websocket_scheme(), &path),
        unchecked: if relay.pin().is_some() { "-k " } else { "" },
        host_key: here.map(|key| key.to_openssh()),
    })
}

//! The relay itself.

use super::{
    authorization::MayRead,
    problem::{Kind, Problem, Problems},
    time::Time,
};
use crate::shared::Shared;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use converge_proto::{RelayNumber, version::ProtocolVersion};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether it takes agents and sessions
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "about", security(()),
    responses(
        (status = 200, description = "It does.", body = Health),
        (status = 503, description = "It is stopping.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Result<Json<Health>, Problem> {
    if shared.draining.is_cancelled() {
        return Err(Problem::new(Kind::Stopping, "sessions that go on are let go on for a while"));
    }
    Ok(Json(Health { status: "ok" }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// Of the program.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Versions of the protocol that it speaks.
    #[schema(example = json!(["converge.1"]))]
    protocols: Vec<&'static str>,
}

/// Which version it is
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "about", security(()),
    responses((status = 200, description = "The version.", body = Version), Problems),
)]
pub(super) async fn version() -> Json<Version> {
    let protocols = ProtocolVersion::ALL.iter().map(|version| version.subprotocol()).collect();
    Json(Version { version: env!("CARGO_PKG_VERSION"), protocols })
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// Its number, where it is one of several that act as one. The other numbers here are of this relay alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 4095)]
    relay: Option<u16>,
    /// Its URL, as agents and clients are given it.
    url: String,
    /// Since when it runs.
    started: Time,
    /// Agents that are here.
    agents: usize,
    /// Sessions that go on.
    sessions: usize,
    /// IDs that wait for their agents.
    reservations: usize,
    /// The number of the latest event.
    event: u64,
    /// Agents and reservations at the same time; 0: as many as there is room for.
    max_agents: u32,
    /// Sessions of one agent at the same time.
    max_sessions_per_agent: u32,
}

/// What it does at this moment
#[utoipa::path(
    get, path = "/info", operation_id = "info", tag = "about",
    responses((status = 200, description = "Numbers.", body = Info), Problems),
)]
pub(super) async fn info(_: MayRead, State(shared): State<Arc<Shared>>) -> Json<Info> {
    let event = *shared.directory.journal().latest().borrow();
    let (agents, sessions) = shared.directory.counts();
    Json(Info {
        relay: shared.relay_number().map(RelayNumber::get),
        url: shared.shown_url().to_string(),
        started: Time(shared.api.started),
        agents,
        sessions,
        reservations: shared.registry.reservations().len(),
        event,
        max_agents: shared.gate.limits().agents,
        max_sessions_per_agent: shared.gate.sessions_per_agent(),
    })
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "description", tag = "about", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json"), Problems),
)]
pub(super) async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::description()).into_response()
}

//! Agents: a list, and one.

use super::{
    authorization::{self, MayRead},
    id::AgentId,
    input::{Path, Query},
    page::{self, PageSize},
    problem::{Kind, Problem, Problems},
    time::Time,
};
use crate::{
    access::{Grant, Scope},
    directory::{AgentEntry, KnownStatus},
    shared::Shared,
};
use axum::{Json, extract::State};
use converge_proto::{Address, Id};
use converge_transport::Carrier;
use serde::{Deserialize, Deserializer, Serialize};
use std::{sync::Arc, time::Instant};
use utoipa::{IntoParams, ToSchema};

/// What a link runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum CarrierName {
    Quic,
    Websocket,
}

impl From<Carrier> for CarrierName {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Quic => Self::Quic,
            Carrier::WebSocket => Self::Websocket,
        }
    }
}

/// A job that runs an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Agent {
    id: AgentId,
    /// What a person copies to reach it.
    address: String,
    /// Since when it is here.
    since: Time,
    carrier: CarrierName,
    /// Where its link comes from.
    peer: String,
    /// Of its SSH host key, as in its address.
    fingerprint: String,
    /// Its program, as it says.
    software: String,
    /// The machine it runs on, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Operating system and architecture, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Its job, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// Where the job can be looked at, as the agent says; `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_url: Option<String>,
    /// The CI system, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    ci: Option<String>,
    /// Sessions with it through this relay now.
    sessions: usize,
    /// Bytes from clients to it, of all its sessions so far.
    to_agent_bytes: u64,
    /// Bytes from it to clients, of all its sessions so far.
    to_client_bytes: u64,
    /// What it last told of its life; missing until it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// What an agent tells of its life.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Users that are logged in.
    users: u32,
    /// Whether it stays when the last user leaves.
    held: bool,
    /// When the nearest clock ends it; missing when none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    /// Which clock that is: `first`, `idle` or `lifetime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
}

impl From<KnownStatus> for Status {
    fn from(status: KnownStatus) -> Self {
        let expires = status.expires.map(|at| Time::after(at.saturating_duration_since(Instant::now())));
        Self { users: status.users, held: status.is_held, expires, clock: status.clock }
    }
}

impl Agent {
    fn new(shared: &Shared, entry: &AgentEntry) -> Self {
        let info = &entry.info;
        let text = |text: &Option<converge_proto::rendezvous::messages::Name>| {
            text.as_ref().map(ToString::to_string)
        };
        let fingerprint = entry.host_key.fingerprint();
        let address = Address {
            relay: Some(shared.shown_url().clone()),
            id: entry.id.clone(),
            fingerprint: Some(fingerprint.clone()),
        };
        let (to_agent_bytes, to_client_bytes) = entry.bytes();
        // The agent may say anything here, and somebody will click on it.
        let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        Self {
            id: AgentId(entry.id.clone()),
            address: address.to_string(),
            since: Time(entry.since),
            carrier: entry.carrier.into(),
            peer: entry.peer.address.to_string(),
            fingerprint: fingerprint.to_string(),
            software: info.software.to_string(),
            host: text(&info.host),
            platform: text(&info.platform),
            job: text(&info.job),
            job_url: info.job_url.as_ref().map(ToString::to_string).filter(is_web),
            ci: text(&info.ci),
            sessions: entry.session_count(),
            to_agent_bytes,
            to_client_bytes,
            status: entry.status().map(Status::from),
        }
    }
}

/// Some of the agents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentPage {
    /// In the order of their IDs.
    agents: Vec<Agent>,
    /// Give this as `after` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AgentId>,
    /// The number of the last event before this was put together: events behind it are news.
    event: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AgentQuery {
    /// Begin behind this ID: the `next` of the page before.
    after: Option<AgentId>,
    /// At most so many.
    #[serde(default)]
    #[param(value_type = u32, minimum = 1, maximum = 1000, default = 100, required = false)]
    limit: PageSize,
    /// Those only whose ID, host, job or CI system has this in it, in capitals or not.
    #[serde(default, deserialize_with = "words")]
    #[param(max_length = 128, required = false)]
    contains: Option<String>,
    /// Those only whose link runs on this.
    #[param(inline)]
    carrier: Option<CarrierName>,
}

/// No more than what is searched can have.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    const MAX_CHARACTERS: usize = 128;
    let text = String::deserialize(deserializer)?;
    if text.chars().count() > MAX_CHARACTERS {
        return Err(serde::de::Error::custom(format!("more than {MAX_CHARACTERS} characters to look for")));
    }
    Ok(Some(text))
}

/// The agents that are here
#[utoipa::path(
    get, path = "/agents", operation_id = "listAgents", tag = "agents", params(AgentQuery),
    responses((status = 200, description = "A page of agents.", body = AgentPage), Problems),
)]
pub(super) async fn list(
    MayRead(grant): MayRead,
    Query(query): Query<AgentQuery>,
    State(shared): State<Arc<Shared>>,
) -> Json<AgentPage> {
    let directory = &shared.directory;
    let event = *directory.journal().latest().borrow();
    let contains = query.contains.map(|words| words.to_lowercase());
    let is_wanted = |entry: &Arc<AgentEntry>| {
        let info = &entry.info;
        let mut texts = [Some(entry.id.as_str())].into_iter().chain(
            [&info.host, &info.job, &info.ci].map(|text| text.as_ref().map(converge_proto::Text::as_str)),
        );
        grant.admit(&entry.id).is_ok()
            && query.carrier.is_none_or(|carrier| carrier == entry.carrier.into())
            && contains
                .as_ref()
                .is_none_or(|words| texts.any(|text| text.is_some_and(|t| t.to_lowercase().contains(words))))
    };
    let (entries, next) = page::collect(
        query.after.map(|after| after.0),
        query.limit,
        |entry: &Arc<AgentEntry>| entry.id.clone(),
        |after: Option<&Id>, limit| directory.agents(after, limit),
        is_wanted,
    );
    let agents = entries.iter().map(|entry| Agent::new(&shared, entry)).collect();
    Json(AgentPage { agents, next: next.map(AgentId), event })
}

/// One agent
#[utoipa::path(
    get, path = "/agents/{id}", operation_id = "showAgent", tag = "agents", params(("id" = AgentId, Path)),
    responses(
        (status = 200, description = "The agent.", body = Agent),
        (status = 404, description = "No agent has this ID.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn show(
    MayRead(grant): MayRead,
    Path(id): Path<AgentId>,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Agent>, Problem> {
    find(&shared, Scope::ApiRead, &grant, &id).map(|entry| Json(Agent::new(&shared, &entry)))
}

pub(super) fn find(
    shared: &Shared,
    scope: Scope,
    grant: &Grant,
    id: &AgentId,
) -> Result<Arc<AgentEntry>, Problem> {
    authorization::admit(shared, scope, grant, &id.0)?;
    let missing = || Problem::new(Kind::NoSuchAgent, format!("no agent has the ID {}", id.0));
    shared.directory.agent(&id.0).ok_or_else(missing)
}

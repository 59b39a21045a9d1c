//! Agents: a list, and one.

use super::{
    authorization::{self, MayRead},
    id::AgentId,
    input::{Path, Query},
    page::{self, PageSize},
    problem::{Kind, Problem, Problems},
    time::Time,
    wide::{self, Entry, List, Reach},
};
use crate::{
    access::{Grant, Scope},
    directory::{AgentEntry, KnownStatus},
    registry::Place,
    shared::Shared,
};
use axum::{Json, extract::State, http::Uri};
use converge_proto::{Address, Id, RelayNumber};
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
    /// At which relay it is, where several act as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 4095)]
    relay: Option<u16>,
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
            relay: shared.relay_number().map(RelayNumber::get),
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
    #[schema(value_type = Vec<Agent>)]
    agents: Vec<Entry<Agent>>,
    /// Give this as `after` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AgentId>,
    /// The number of this relay's last event before this was put together: events behind it are news.
    event: u64,
    /// Relays of the cluster that have not answered in time: what they have is missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<u16>, required = false)]
    unreachable: Vec<u16>,
}

const AGENTS: List<Id> =
    List { name: "agents", key: "id", read: |value| value.as_str().and_then(|id| id.parse().ok()) };

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
    reach: Reach,
    uri: Uri,
    Query(query): Query<AgentQuery>,
    State(shared): State<Arc<Shared>>,
) -> Json<AgentPage> {
    let asking = AGENTS.ask(&shared, reach, &grant, &uri);
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
    let here = entries.iter().map(|entry| (entry.id.clone(), Entry::Here(Agent::new(&shared, entry))));
    let here = wide::Part { entries: here.collect(), next };
    let (there, unreachable) = asking.await;
    let (agents, next) = wide::merge(here, there, query.limit);
    Json(AgentPage { agents, next: next.map(AgentId), event, unreachable })
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
    reach: Reach,
    Path(id): Path<AgentId>,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Entry<Agent>>, Problem> {
    match find(&shared, Scope::ApiRead, reach, &grant, &id)? {
        Found::Here(entry) => Ok(Json(Entry::Here(Agent::new(&shared, &entry)))),
        Found::At(relay) => {
            let there = wide::get(&shared, relay, &grant, &format!("agents/{}", id.0)).await?;
            Ok(Json(Entry::There(there)))
        }
    }
}

/// Where an agent was found.
pub(super) enum Found {
    Here(Arc<AgentEntry>),
    At(RelayNumber),
}

pub(super) fn find(
    shared: &Shared,
    scope: Scope,
    reach: Reach,
    grant: &Grant,
    id: &AgentId,
) -> Result<Found, Problem> {
    authorization::admit(shared, scope, grant, &id.0)?;
    if let Some(entry) = shared.directory.agent(&id.0) {
        return Ok(Found::Here(entry));
    }
    match shared.registry.find(&id.0) {
        // Where its relay has gone, the ID is only kept for it.
        Some(Place::At(elsewhere)) if reach.has_other(shared, elsewhere.relay) => {
            Ok(Found::At(elsewhere.relay))
        }
        _ => Err(Problem::new(Kind::NoSuchAgent, format!("no agent has the ID {}", id.0))),
    }
}

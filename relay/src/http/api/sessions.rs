//! Sessions: a list, and one. Who, since when, how many bytes; never what is inside.

use super::{
    agents::CarrierName,
    authorization::{self, MayRead},
    id::AgentId,
    input::{Path, Query},
    number,
    page::{self, PageSize},
    problem::{Kind, Problem, Problems},
    time::Time,
    wide::{self, Entry, List, Reach},
};
use crate::{
    access::Scope,
    directory::SessionEntry,
    shared::{Shared, relay_of_session},
};
use axum::{Json, extract::State, http::Uri};
use converge_proto::{RelayNumber, rendezvous::SessionKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A connection between a client and an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// The relay's number for it, also in the logs of relay and agent.
    number: u64,
    /// At which relay it and its agent are, where several act as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 4095)]
    relay: Option<u16>,
    /// The agent's ID.
    id: AgentId,
    /// Whether it can outlive its links.
    resumable: bool,
    /// Since when. One that comes back after an outage is another session to the relay.
    since: Time,
    /// What the client's link runs on.
    carrier: CarrierName,
    /// Where the client comes from.
    peer: String,
    /// The client's program, as it says.
    software: String,
    /// Bytes from the client to the agent so far.
    to_agent_bytes: u64,
    /// Bytes from the agent to the client so far.
    to_client_bytes: u64,
}

impl From<&Arc<SessionEntry>> for Session {
    fn from(entry: &Arc<SessionEntry>) -> Self {
        Self {
            number: entry.number,
            relay: relay_of_session(entry.number).map(RelayNumber::get),
            id: AgentId(entry.id.clone()),
            resumable: entry.kind == SessionKind::Resumable,
            since: Time(entry.since),
            carrier: entry.peer.carrier.into(),
            peer: entry.peer.address.to_string(),
            software: entry.software.to_string(),
            to_agent_bytes: entry.traffic.to_agent_bytes(),
            to_client_bytes: entry.traffic.to_client_bytes(),
        }
    }
}

/// Some of the sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionPage {
    /// In the order of their numbers: those of one relay in the order in which they began.
    #[schema(value_type = Vec<Session>)]
    sessions: Vec<Entry<Session>>,
    /// Give this as `after` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// The number of this relay's last event before this was put together: events behind it are news.
    event: u64,
    /// Relays of the cluster that have not answered in time: what they have is missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<u16>, required = false)]
    unreachable: Vec<u16>,
}

const SESSIONS: List<u64> = List { name: "sessions", key: "number", read: serde_json::Value::as_u64 };

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionQuery {
    /// Begin behind this number: the `next` of the page before.
    #[serde(default, deserialize_with = "number::position")]
    #[param(required = false)]
    after: Option<u64>,
    /// At most so many.
    #[serde(default)]
    #[param(value_type = u32, minimum = 1, maximum = 1000, default = 100, required = false)]
    limit: PageSize,
    /// Those with this agent only.
    id: Option<AgentId>,
    /// Those only whose client's link runs on this.
    #[param(inline)]
    carrier: Option<CarrierName>,
}

/// The sessions that go on
#[utoipa::path(
    get, path = "/sessions", operation_id = "listSessions", tag = "sessions", params(SessionQuery),
    responses((status = 200, description = "A page of sessions.", body = SessionPage), Problems),
)]
pub(super) async fn list(
    MayRead(grant): MayRead,
    reach: Reach,
    uri: Uri,
    Query(query): Query<SessionQuery>,
    State(shared): State<Arc<Shared>>,
) -> Json<SessionPage> {
    let asking = SESSIONS.ask(&shared, reach, &grant, &uri);
    let directory = &shared.directory;
    let event = *directory.journal().latest().borrow();
    let is_wanted = |entry: &Arc<SessionEntry>| {
        grant.admit(&entry.id).is_ok()
            && query.id.as_ref().is_none_or(|id| id.0 == entry.id)
            && query.carrier.is_none_or(|carrier| carrier == entry.peer.carrier.into())
    };
    let (entries, next) = page::collect(
        query.after,
        query.limit,
        |entry: &Arc<SessionEntry>| entry.number,
        |after: Option<&u64>, limit| directory.sessions(after.copied(), limit),
        is_wanted,
    );
    let here = entries.iter().map(|entry| (entry.number, Entry::Here(Session::from(entry))));
    let here = wide::Part { entries: here.collect(), next };
    let (there, unreachable) = asking.await;
    let (sessions, next) = wide::merge(here, there, query.limit);
    Json(SessionPage { sessions, next, event, unreachable })
}

/// One session
#[utoipa::path(
    get, path = "/sessions/{number}", operation_id = "showSession", tag = "sessions",
    params(("number" = u64, Path, description = "The relay's number for it.")),
    responses(
        (status = 200, description = "The session.", body = Session),
        (status = 404, description = "It has ended, or has never been.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn show(
    MayRead(grant): MayRead,
    reach: Reach,
    Path(number): Path<u64>,
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Entry<Session>>, Problem> {
    if let Some(relay) = relay_of_session(number).filter(|relay| reach.has_other(&shared, *relay)) {
        let there = wide::get(&shared, relay, &grant, &format!("sessions/{number}")).await?;
        return Ok(Json(Entry::There(there)));
    }
    let missing = || Problem::new(Kind::NoSuchSession, format!("there is no session {number} now"));
    let session = shared.directory.session(number).ok_or_else(missing)?;
    authorization::admit(&shared, Scope::ApiRead, &grant, &session.id)?;
    Ok(Json(Entry::Here(Session::from(&session))))
}

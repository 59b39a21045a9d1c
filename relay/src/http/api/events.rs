//! What happens to agents and sessions: since a number, or from now on.

mod stream;

use super::{
    agents::CarrierName,
    authorization::MayRead,
    id::AgentId,
    input::Query,
    number,
    page::PageSize,
    problem::{Kind, Problem, Problems},
    time::Time,
};
use crate::{
    directory::{self, Happening},
    shared::Shared,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use utoipa::{IntoParams, ToSchema};

/// One thing that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// From 1, without gaps, as long as the relay runs.
    number: u64,
    /// When.
    at: Time,
    /// What.
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum What {
    /// An agent is here.
    AgentRegistered { id: AgentId, carrier: CarrierName },
    /// An agent goes on over another link.
    AgentMoved { id: AgentId, carrier: CarrierName },
    /// What an agent tells of its life has changed: look at the agent.
    AgentStatus { id: AgentId },
    /// An agent warns its users that it ends soon.
    AgentWarning { id: AgentId, remaining_ms: u64, reason: String },
    /// An agent has gone.
    AgentGone { id: AgentId, reason: String },
    /// A session begins.
    SessionBegan { session: u64, id: AgentId, carrier: CarrierName },
    /// A session has ended.
    SessionEnded {
        session: u64,
        id: AgentId,
        to_agent_bytes: u64,
        to_client_bytes: u64,
        /// How long it lasted.
        milliseconds: u64,
        reason: String,
    },
}

impl What {
    /// As in `type`.
    fn name(&self) -> &'static str {
        match self {
            Self::AgentRegistered { .. } => "agent-registered",
            Self::AgentMoved { .. } => "agent-moved",
            Self::AgentStatus { .. } => "agent-status",
            Self::AgentWarning { .. } => "agent-warning",
            Self::AgentGone { .. } => "agent-gone",
            Self::SessionBegan { .. } => "session-began",
            Self::SessionEnded { .. } => "session-ended",
        }
    }
}

impl From<&Happening> for What {
    fn from(what: &Happening) -> Self {
        let id = AgentId(what.id().clone());
        match what {
            Happening::AgentRegistered { carrier, .. } => {
                Self::AgentRegistered { id, carrier: (*carrier).into() }
            }
            Happening::AgentMoved { carrier, .. } => Self::AgentMoved { id, carrier: (*carrier).into() },
            Happening::AgentStatus { .. } => Self::AgentStatus { id },
            Happening::AgentWarning { remaining_ms, reason, .. } => {
                Self::AgentWarning { id, remaining_ms: *remaining_ms, reason: reason.clone() }
            }
            Happening::AgentGone { reason, .. } => Self::AgentGone { id, reason: reason.clone() },
            Happening::SessionBegan { session, carrier, .. } => {
                Self::SessionBegan { session: *session, id, carrier: (*carrier).into() }
            }
            Happening::SessionEnded {
                session,
                to_agent_bytes,
                to_client_bytes,
                milliseconds,
                reason,
                ..
            } => Self::SessionEnded {
                session: *session,
                id,
                to_agent_bytes: *to_agent_bytes,
                to_client_bytes: *to_client_bytes,
                milliseconds: *milliseconds,
                reason: reason.clone(),
            },
        }
    }
}

impl From<&Arc<directory::Event>> for Event {
    fn from(event: &Arc<directory::Event>) -> Self {
        Self { number: event.number, at: Time(event.at), what: What::from(&event.what) }
    }
}

/// A part of what happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventPage {
    /// In order.
    events: Vec<Event>,
    /// The number of the last of these events, or what `after` was: give it as `after` the next time.
    next: u64,
    /// Whether events that were asked for are forgotten, or the relay has been started again: list agents and sessions
    /// anew instead of following events.
    has_gap: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Events behind this number; all that are kept, when it is missing, or in a stream those to come.
    #[serde(default, deserialize_with = "number::position")]
    #[param(required = false)]
    after: Option<u64>,
    /// At most so many. A stream has no end.
    #[serde(default)]
    #[param(value_type = u32, minimum = 1, maximum = 1000, default = 100, required = false)]
    limit: PageSize,
}

/// What happened since a number; as a stream of what happens, with Accept: text/event-stream
///
/// In the stream each event has its number as `id`, its `type` as `event` and itself as `data`. `Last-Event-ID` goes
/// before `after`. An event `gap` says that events that were asked for are forgotten. A comment comes every fifteen
/// seconds. The stream ends when the relay stops, or its reader is too slow.
#[utoipa::path(
    get, path = "/events", operation_id = "listEvents", tag = "events", params(EventQuery),
    responses(
        (status = 200, description = "What happened.", content(
            (EventPage = "application/json"),
            (String = "text/event-stream"),
        )),
        Problems,
    ),
)]
pub(super) async fn since(
    MayRead(grant): MayRead,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
    State(shared): State<Arc<Shared>>,
) -> Result<Response, Problem> {
    let journal = shared.directory.journal();
    if wants_stream(&headers) {
        let after = match headers.get("last-event-id") {
            Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
                Problem::new(Kind::BadRequest, "Last-Event-ID is not the number of an event")
            })?),
            None => query.after,
        };
        let after = after.unwrap_or_else(|| *journal.latest().borrow());
        let Ok(permit) = shared.api.streams.clone().try_acquire_owned() else {
            let problem = Problem::new(Kind::TooMany, "too many streams of events are open");
            return Err(problem.retry_after(Duration::from_secs(10)));
        };
        return Ok(stream::respond(journal.clone(), after, grant, permit, shared.draining.clone()));
    }
    let after = query.after.unwrap_or(0);
    // Without a number everything is asked for that there is, so nothing is missing.
    let page = journal.since(after, query.limit.0);
    let has_gap = page.has_gap && query.after.is_some();
    let next = page.events.last().map_or_else(|| after.min(*journal.latest().borrow()), |event| event.number);
    let own = page.events.iter().filter(|event| grant.admit(event.what.id()).is_ok());
    let events = own.map(Event::from).collect();
    Ok(Json(EventPage { events, next, has_gap }).into_response())
}

/// Whether the media type for streams is named; whoever takes anything gets JSON.
fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .filter_map(|range| range.split(';').next())
            .any(|range| range.trim() == "text/event-stream")
    })
}

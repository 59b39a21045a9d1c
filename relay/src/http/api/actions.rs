//! What may be asked of agents: to stop, to stay longer, to show something. Of one, or of many at a time.

use super::{
    agents::{Found, find},
    authorization::MayWrite,
    id::AgentId,
    input::{Json as Body, Path},
    number,
    problem::{Kind, Problem, Problems},
    wide::{self, Reach},
};
use crate::{
    access::{Grant, Scope},
    directory::{Action, ActionError},
    limits,
    shared::Shared,
};
use axum::{Json, extract::State, http::StatusCode};
use converge_proto::rendezvous::messages::Line;
use futures_util::future::join_all;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc, time::Duration};
use utoipa::ToSchema;

/// A line for people.
#[derive(Clone, Debug)]
struct Words(Line);

impl Words {
    const MAX_BYTES: usize = 512;
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text.trim().is_empty() {
            return Err(serde::de::Error::custom("a text without words"));
        }
        if text.len() > Self::MAX_BYTES {
            let message = format!("a text of {} bytes; at most {} are taken", text.len(), Self::MAX_BYTES);
            return Err(serde::de::Error::custom(message));
        }
        Ok(Self(Line::new(text)))
    }
}

/// The IDs of several agents.
#[derive(Debug)]
struct Ids(Vec<AgentId>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<AgentId>::deserialize(deserializer)?;
        if ids.is_empty() || ids.len() > limits::MAX_BULK_AGENTS {
            let message = format!("{} IDs; it is 1 to {} at a time", ids.len(), limits::MAX_BULK_AGENTS);
            return Err(serde::de::Error::custom(message));
        }
        Ok(Self(ids))
    }
}

/// Seconds from one to thirty days.
#[derive(Clone, Copy, Debug)]
struct Seconds(u64);

impl Seconds {
    const MAX: u64 = 30 * 24 * 3600;
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number::whole(deserializer, 1, Self::MAX, " seconds").map(Self)
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    /// What users are told as the reason: one line of at most 512 bytes, not of blanks alone.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 512, pattern = r"\S", example = "the machine is needed")]
    reason: Option<Words>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    /// How long nothing but the hard cap may end the agent from now on.
    #[schema(value_type = u64, minimum = 1, maximum = 2_592_000, example = 3600)]
    seconds: Seconds,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// What everybody sees who is logged in: one line of at most 512 bytes, not of blanks alone.
    #[schema(value_type = String, min_length = 1, max_length = 512, pattern = r"\S", example = "please push your work")]
    text: Words,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StopMany {
    /// Which agents.
    #[schema(value_type = Vec<AgentId>, min_items = 1, max_items = 100)]
    ids: Ids,
    /// What users are told as the reason: one line of at most 512 bytes, not of blanks alone.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 512, pattern = r"\S", example = "the machine is needed")]
    reason: Option<Words>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendMany {
    /// Which agents.
    #[schema(value_type = Vec<AgentId>, min_items = 1, max_items = 100)]
    ids: Ids,
    /// How long nothing but the hard cap may end the agents from now on.
    #[schema(value_type = u64, minimum = 1, maximum = 2_592_000, example = 3600)]
    seconds: Seconds,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageMany {
    /// Which agents.
    #[schema(value_type = Vec<AgentId>, min_items = 1, max_items = 100)]
    ids: Ids,
    /// What everybody sees who is logged in: one line of at most 512 bytes, not of blanks alone.
    #[schema(value_type = String, min_length = 1, max_length = 512, pattern = r"\S", example = "please push your work")]
    text: Words,
}

fn stop_because(reason: Option<Words>) -> Action {
    Action::Stop(reason.map_or_else(|| Line::new("the relay's operator ends it"), |reason| reason.0))
}

/// An agent has done what it was asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    id: AgentId,
}

/// What became of one of many.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    id: AgentId,
    /// The status that the answer would have had if this had been asked alone.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// Why it was not done; missing when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// What became of each.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcomes {
    /// In the order of the IDs in the request.
    results: Vec<Outcome>,
}

async fn ask(
    shared: &Shared,
    reach: Reach,
    grant: &Grant,
    id: &AgentId,
    action: Action,
) -> Result<(), Problem> {
    let problem = |error: ActionError| {
        let detail = format!("{}: {error}", id.0);
        match error {
            ActionError::Gone => Problem::new(Kind::AgentGone, detail),
            ActionError::Busy => Problem::new(Kind::TooMany, detail).retry_after(Duration::from_secs(1)),
            ActionError::NoAnswer => Problem::new(Kind::AgentSilent, detail),
            ActionError::Refused(_) => Problem::new(Kind::AgentRefuses, detail),
        }
    };
    match find(shared, Scope::ApiWrite, reach, grant, id)? {
        Found::Here(entry) => entry.ask(action).await.map_err(problem),
        Found::At(relay) => {
            let (what, body) = written(&action);
            wide::post(shared, relay, grant, &format!("agents/{}/{what}", id.0), &body).await
        }
    }
}

/// An action as it is asked for: the last part of its path, and the body.
fn written(action: &Action) -> (&'static str, Value) {
    match action {
        Action::Stop(reason) => ("stop", json!({ "reason": reason.to_string() })),
        Action::Extend(time) => ("extend", json!({ "seconds": time.as_secs() })),
        Action::Message(text) => ("message", json!({ "text": text.to_string() })),
    }
}

async fn ask_one(
    shared: &Shared,
    reach: Reach,
    grant: &Grant,
    id: AgentId,
    action: Action,
) -> Result<Json<Done>, Problem> {
    ask(shared, reach, grant, &id, action).await.map(|()| Json(Done { id }))
}

/// All at once: one that does not answer holds up nobody else.
async fn ask_many(
    shared: &Shared,
    reach: Reach,
    grant: &Grant,
    ids: Ids,
    action: Action,
) -> (StatusCode, Json<Outcomes>) {
    let asking = ids.0.into_iter().map(|id| async {
        let problem = ask(shared, reach, grant, &id, action.clone()).await.err();
        Outcome { id, status: problem.as_ref().map_or(200, Problem::status), problem }
    });
    (StatusCode::MULTI_STATUS, Json(Outcomes { results: join_all(asking).await }))
}

macro_rules! actions {
    ($(
        $one:ident $one_operation:literal $one_path:literal $one_body:ident,
        $many:ident $many_operation:literal $many_path:literal $many_body:ident,
        $body:ident => $action:expr, $summary:literal, $summary_many:literal;
    )*) => {$(
        #[doc = $summary]
        #[utoipa::path(
            post, path = $one_path, operation_id = $one_operation, tag = "agents", params(("id" = AgentId, Path)),
            request_body = $one_body,
            responses(
                (status = 200, description = "The agent has said that it does.", body = Done),
                (status = 404, description = "No agent has this ID.", body = Problem, content_type = "application/problem+json"),
                (status = 409, description = "The agent says no, or went.", body = Problem, content_type = "application/problem+json"),
                (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
                (status = 415, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
                (status = 504, description = "The agent does not answer.", body = Problem, content_type = "application/problem+json"),
                Problems,
            ),
        )]
        pub(super) async fn $one(
            MayWrite(grant): MayWrite,
            reach: Reach,
            Path(id): Path<AgentId>,
            State(shared): State<Arc<Shared>>,
            Body($body): Body<$one_body>,
        ) -> Result<Json<Done>, Problem> {
            ask_one(&shared, reach, &grant, id, $action).await
        }

        #[doc = $summary_many]
        #[utoipa::path(
            post, path = $many_path, operation_id = $many_operation, tag = "agents", request_body = $many_body,
            responses(
                (status = 207, description = "What became of each.", body = Outcomes),
                (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
                (status = 415, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
                Problems,
            ),
        )]
        pub(super) async fn $many(
            MayWrite(grant): MayWrite,
            reach: Reach,
            State(shared): State<Arc<Shared>>,
            Body($body): Body<$many_body>,
        ) -> (StatusCode, Json<Outcomes>) {
            let action = $action;
            ask_many(&shared, reach, &grant, $body.ids, action).await
        }
    )*};
}

// Many are asked below `/bulk`, for an agent may have the ID `stop`.
actions! {
    stop "stopAgent" "/agents/{id}/stop" Stop,
    stop_many "stopAgents" "/bulk/stop" StopMany,
    body => stop_because(body.reason), "End an agent, after it has told its users", "End several agents";

    extend "extendAgent" "/agents/{id}/extend" Extend,
    extend_many "extendAgents" "/bulk/extend" ExtendMany,
    body => Action::Extend(Duration::from_secs(body.seconds.0)), "Keep an agent for longer", "Keep several agents for longer";

    message "messageAgent" "/agents/{id}/message" Message,
    message_many "messageAgents" "/bulk/message" MessageMany,
    body => Action::Message(body.text.0), "Show a line to everybody who is logged in", "Show a line to the users of several agents";
}

//! IDs that are kept for jobs that have not started.

use super::{
    authorization::{self, MayRead, MayWrite},
    id::AgentId,
    input::{Json as Body, Path},
    number,
    problem::{Kind, Problem, Problems},
    time::Time,
};
use crate::{access::Scope, limits, registry::ReserveRefusal, shared::Shared};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
};
use converge_proto::rendezvous::{
    SecretHash, Token,
    id_table::{Reservation as Reserved, ReserveError},
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

/// How long an ID waits for its agent, in seconds: up to a day, an hour if nothing is said.
#[derive(Clone, Copy, Debug)]
struct Wait(u64);

impl Wait {
    const DEFAULT: u64 = 3600;
    const MAX: u64 = 24 * 3600;
}

impl Default for Wait {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number::whole(deserializer, 1, Self::MAX, " seconds").map(Self)
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The ID to be kept; without it the relay makes one up.
    id: Option<AgentId>,
    /// How long to wait for the agent, in seconds.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 1, maximum = 86_400, default = 3600, required = false)]
    seconds: Wait,
}

/// An ID that waits for its agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reservation {
    id: AgentId,
    /// How long it waits.
    expires: Time,
}

impl From<Reserved> for Reservation {
    fn from(reserved: Reserved) -> Self {
        let left = reserved.until.saturating_duration_since(Instant::now());
        Self { id: AgentId(reserved.id), expires: Time::after(left) }
    }
}

/// A new reservation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewReservation {
    #[serde(flatten)]
    reservation: Reservation,
    /// The first agent that registers with this token has the ID. It is said this once.
    #[schema(example = "cvg_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    token: String,
}

/// What is reserved.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reservations {
    /// By ID. Those whose agent has come are not among them.
    reservations: Vec<Reservation>,
}

/// The IDs that wait for their agents
#[utoipa::path(
    get, path = "/reservations", operation_id = "listReservations", tag = "reservations",
    responses((status = 200, description = "All of them.", body = Reservations), Problems),
)]
pub(super) async fn list(MayRead(grant): MayRead, State(shared): State<Arc<Shared>>) -> Json<Reservations> {
    let all = shared.registry.reservations().into_iter();
    let reservations = all.filter(|one| grant.admit(&one.id).is_ok()).map(Reservation::from).collect();
    Json(Reservations { reservations })
}

/// Keep an ID for a job that has not started
#[utoipa::path(
    post, path = "/reservations", operation_id = "createReservation", tag = "reservations", request_body = Wanted,
    responses(
        (status = 201, description = "It is reserved.", body = NewReservation,
            headers(("Location" = String, description = "The path of the reservation, relative to that of the request"))),
        (status = 409, description = "An agent has the ID, or it is reserved.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn create(
    MayWrite(grant): MayWrite,
    State(shared): State<Arc<Shared>>,
    Body(wanted): Body<Wanted>,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<NewReservation>), Problem> {
    if shared.draining.is_cancelled() {
        return Err(Problem::new(Kind::Stopping, "nothing is reserved any more"));
    }
    let random: [u8; 32] = rand::random();
    let token: Token = format!("cvg_{}", BASE64URL_NOPAD.encode(&random))
        .parse()
        .map_err(|error| Problem::new(Kind::TooSlow, format!("no token: {error}")))?;
    let id = match wanted.id {
        Some(AgentId(id)) => authorization::admit(&shared, Scope::ApiWrite, &grant, &id).map(|()| id)?,
        None => grant.generate_id(),
    };
    let reserving =
        shared.registry.reserve(Some(id), SecretHash::of(&token), Duration::from_secs(wanted.seconds.0));
    let reserved = reserving.await.map_err(|error| match error {
        ReserveRefusal::Rules(ReserveError::Taken | ReserveError::SecretTaken) => {
            Problem::new(Kind::Taken, error.to_string())
        }
        ReserveRefusal::Rules(ReserveError::TooMany | ReserveError::Full) => {
            Problem::new(Kind::TooMany, error.to_string()).retry_after(limits::RESERVATION)
        }
        ReserveRefusal::Unavailable(away) => away.into(),
    })?;
    tracing::info!(id = %reserved.id, seconds = wanted.seconds.0, "ID reserved");
    let location = [(header::LOCATION, format!("reservations/{}", reserved.id))];
    let created = NewReservation { reservation: reserved.into(), token: token.secret().to_owned() };
    Ok((StatusCode::CREATED, location, Json(created)))
}

/// Take a reservation back
#[utoipa::path(
    delete, path = "/reservations/{id}", operation_id = "deleteReservation", tag = "reservations",
    params(("id" = AgentId, Path)),
    responses(
        (status = 204, description = "The ID is free."),
        (status = 404, description = "There is none, or its agent has come.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn delete(
    MayWrite(grant): MayWrite,
    Path(id): Path<AgentId>,
    State(shared): State<Arc<Shared>>,
) -> Result<StatusCode, Problem> {
    authorization::admit(&shared, Scope::ApiWrite, &grant, &id.0)?;
    if shared.registry.cancel(&id.0).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(Kind::NoSuchReservation, format!("the ID {} does not wait for an agent", id.0)))
}

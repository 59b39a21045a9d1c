//! The API of the relay, version 1: what the directory knows, and what an operator may ask of agents.
//!
//! Everything is JSON. Errors are problems as in [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) ([`problem`]). The
//! description of it all is made of this code and served as `openapi.json`. What is inside a session is not known here.
//!
//! Each request passes, in this order: the rate of its sender, its token ([`authorization`]), the limits of its body, the
//! check of every value ([`input`]).
//!
//! Where several relays act as one, agents and sessions are those of all of them ([`wide`]).

#![allow(unused_qualifications, reason = "what utoipa makes of these types names them in full")]

mod about;
mod actions;
mod agents;
mod authorization;
mod events;
mod id;
mod input;
mod number;
mod page;
mod problem;
mod rate;
mod relays;
mod reservations;
mod sessions;
mod time;
mod wide;

use crate::{limits, shared::Shared};
pub(super) use authorization::is_for_programs_here;
use axum::{
    Router,
    extract::{OriginalUri, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use problem::{Kind, Problem};
use rate::Rate;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::SystemTime,
};
use tokio::sync::Semaphore;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the API keeps between requests.
pub(crate) struct Api {
    /// Nobody but this machine can reach the relay, so nobody else needs to be kept out.
    is_private: bool,
    started: SystemTime,
    rate: Rate,
    /// One permit for each stream of events that may still begin.
    streams: Arc<Semaphore>,
}

impl Api {
    /// For a relay that listens at these addresses, and is known elsewhere by another name or not.
    pub(crate) fn new(listening: &[SocketAddr], has_public_url: bool) -> Self {
        let is_private = !has_public_url && listening.iter().all(|address| address.ip().is_loopback());
        Self {
            is_private,
            started: SystemTime::now(),
            rate: Rate::default(),
            streams: Arc::new(Semaphore::new(limits::MAX_EVENT_STREAMS)),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Converge relay",
        description = "Agents and sessions of a relay, what happens to them, and what its operator may ask of agents.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    security(("token" = [])),
    modifiers(&Finish),
    components(schemas(Problem)),
    tags(
        (name = "agents", description = "Jobs that run an agent"),
        (name = "sessions", description = "Connections to them"),
        (name = "reservations", description = "IDs that are kept for jobs that have not started"),
        (name = "events", description = "What happens to agents and sessions"),
        (name = "relays", description = "Several relays that act as one"),
        (name = "about", description = "The relay itself"),
    ),
)]
struct Description;

struct Finish;

impl Modify for Finish {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the relay with the scope api:read, or api:write for everything."))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        // Relative to the description itself, so that it holds below any path.
        openapi.servers = Some(vec![Server::new(".")]);
    }
}

fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(actions::stop))
        .routes(routes!(actions::extend))
        .routes(routes!(actions::message))
        .routes(routes!(actions::stop_many))
        .routes(routes!(actions::extend_many))
        .routes(routes!(actions::message_many))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show))
        .routes(routes!(reservations::list, reservations::create))
        .routes(routes!(reservations::delete))
        .routes(routes!(events::since))
        .routes(routes!(relays::list))
        .routes(routes!(about::health))
        .routes(routes!(about::version))
        .routes(routes!(about::info))
        .routes(routes!(about::description))
}

/// The description, as it is served.
fn description() -> &'static str {
    static DESCRIPTION: OnceLock<String> = OnceLock::new();
    DESCRIPTION.get_or_init(|| routes().into_openapi().to_pretty_json().unwrap_or_default())
}

/// Everything below `/api/v1`.
pub(super) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async |uri: OriginalUri| {
            Problem::new(Kind::NoSuchPath, format!("the API has nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method| {
            Problem::new(Kind::NoSuchMethod, format!("there is no {method} here"))
        })
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
}

/// What holds for every request: how often, how long, and what browsers may do with the answer.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match shared.api.rate.check(&request) {
        Ok(()) => match tokio::time::timeout(limits::API_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::new(Kind::TooSlow, "the request was not done in time").into_response(),
        },
        Err(wait) => {
            Problem::new(Kind::TooOften, "too many requests from here").retry_after(wait).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_summary_and_says_whom_it_lets_in() {
        let description: serde_json::Value = serde_json::from_str(description()).unwrap();
        let paths = description["paths"].as_object().unwrap();
        assert!(paths.len() >= 15, "{paths:?}");
        let open = ["/health", "/version", "/openapi.json"];
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
                let is_open = operation["security"] == serde_json::json!([{}]);
                assert_eq!(is_open, open.contains(&path.as_str()), "{method} {path}");
            }
        }
    }

    #[test]
    fn what_the_description_refers_to_is_in_it() {
        let text = description();
        let description: serde_json::Value = serde_json::from_str(text).unwrap();
        let places: Vec<_> =
            text.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(places.len() > 30, "{places:?}");
        for place in places {
            assert!(description.pointer(place).is_some(), "{place}");
        }
        for entry in ["Agent", "Session"] {
            let relay = &description["components"]["schemas"][entry]["properties"]["relay"];
            assert_eq!(relay["maximum"], 4095, "{entry}");
        }
    }

    #[test]
    fn only_a_relay_that_nobody_else_can_reach_is_private() {
        let loopback: SocketAddr = "[::1]:4433".parse().unwrap();
        let everywhere: SocketAddr = "[::]:4433".parse().unwrap();
        assert!(Api::new(&[loopback], false).is_private);
        assert!(!Api::new(&[loopback], true).is_private, "a proxy in front of it lets others in");
        assert!(!Api::new(&[loopback, everywhere], false).is_private);
    }
}

//! Errors as [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) has them: what kind, what happened, what to do.

use crate::registry::Unavailable;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, response},
};

/// The media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// An error, for programs and for people.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Problem {
    /// What kind of problem, for programs.
    #[serde(rename = "type")]
    #[schema(format = "uri", example = "urn:converge:problem:no-such-agent")]
    kind: String,
    /// The kind in words.
    #[schema(value_type = String, example = "There is no such agent")]
    title: Cow<'static, str>,
    /// The status of the answer again.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// What happened this time.
    #[schema(example = "no agent has the ID build")]
    detail: String,
    /// What to do about it.
    #[schema(value_type = String)]
    advice: Cow<'static, str>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $status:ident $title:literal, $advice:literal;)*) => {
        /// What kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// In problems without their prefix, and in `docs/operating/api.md`.
            const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub(super) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            const fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)* }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$kind),*];
        }
    };
}

kinds! {
    /// A value that cannot be.
    BadRequest "bad-request" BAD_REQUEST "The request makes no sense",
        "see openapi.json for what may be said";
    /// No token.
    NoToken "no-token" UNAUTHORIZED "A token is needed",
        "send one that the relay's operator gave you as Authorization: Bearer TOKEN";
    /// A token, but not for this.
    Forbidden "forbidden" FORBIDDEN "This is not allowed",
        "ask the relay's operator for a token with the scope for it";
    /// Nobody has the ID.
    NoSuchAgent "no-such-agent" NOT_FOUND "There is no such agent",
        "check the ID; the job has not started its agent yet, or is over";
    /// It has ended, or has never been.
    NoSuchSession "no-such-session" NOT_FOUND "There is no such session",
        "look it up among the events if it has ended";
    /// Nobody has reserved it, or the agent has come.
    NoSuchReservation "no-such-reservation" NOT_FOUND "There is no such reservation",
        "an agent may have come for the ID already, or its time is over";
    /// A path that the API does not have.
    NoSuchPath "no-such-path" NOT_FOUND "There is nothing here",
        "see openapi.json for what there is";
    /// A method that the path does not have.
    NoSuchMethod "no-such-method" METHOD_NOT_ALLOWED "This cannot be done here",
        "see openapi.json for what there is";
    /// The body did not come.
    BodyTooSlow "body-too-slow" REQUEST_TIMEOUT "The body did not come in time",
        "send it again";
    /// The agent, or somebody else, has it.
    Taken "taken" CONFLICT "The ID is taken",
        "choose another one, or leave the choice to the relay";
    /// The agent says no.
    AgentRefuses "agent-refuses" CONFLICT "The agent does not do it",
        "see the detail for its reason";
    /// The agent went while it was asked.
    AgentGone "agent-gone" CONFLICT "The agent has gone",
        "look whether it is back";
    /// A body larger than any that makes sense.
    TooLarge "too-large" PAYLOAD_TOO_LARGE "The body is too large",
        "ask for less at a time";
    /// A body that is not JSON.
    NotJson "not-json" UNSUPPORTED_MEDIA_TYPE "The body is not JSON",
        "send JSON, and Content-Type: application/json";
    /// Too many requests.
    TooOften "too-often" TOO_MANY_REQUESTS "This is too often",
        "wait as long as Retry-After says";
    /// Something is full.
    TooMany "too-many" TOO_MANY_REQUESTS "There are too many of these",
        "end some of them, or try again later";
    /// The relay did not do it in time.
    TooSlow "too-slow" SERVICE_UNAVAILABLE "The relay is too busy",
        "try again later";
    /// What keeps the IDs of a cluster does not answer.
    NoRegistry "no-registry" SERVICE_UNAVAILABLE "The cluster's registry is away",
        "try again in a moment; what is here goes on meanwhile";
    /// The relay of the cluster that has what was asked for does not answer.
    RelayAway "relay-away" SERVICE_UNAVAILABLE "The relay that has it does not answer",
        "try again in a moment; GET relays says how each relay is";
    /// The relay is about to end.
    Stopping "stopping" SERVICE_UNAVAILABLE "The relay is stopping",
        "try again in a moment";
    /// The agent did not answer.
    AgentSilent "agent-silent" GATEWAY_TIMEOUT "The agent does not answer",
        "its network may be down, or it is older than this relay; try again in a minute";
}

impl From<Unavailable> for Problem {
    fn from(away: Unavailable) -> Self {
        Self::new(Kind::NoRegistry, away.to_string())
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:converge:problem:{}", kind.name()),
            title: kind.title().into(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            advice: kind.advice().into(),
            retry_after: None,
        }
    }

    /// With when to try again.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"converge\""));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

/// The problems that every request may meet, for the description.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        let problem = || {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            ResponseBuilder::new().content(MEDIA_TYPE, content)
        };
        [
            (Kind::BadRequest, "What was asked for makes no sense."),
            (Kind::NoToken, "No token, or one that the relay does not know."),
            (Kind::Forbidden, "The token is not for this, or the network may not."),
            (
                Kind::TooOften,
                "Too many requests, or too many of something; Retry-After says how long to wait.",
            ),
            (Kind::TooSlow, "The relay is too busy, or is stopping."),
        ]
        .into_iter()
        .map(|(kind, words)| (kind.status().as_str().to_owned(), problem().description(words).build().into()))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own_and_say_what_to_do() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let docs = include_str!("../../../../docs/operating/api.md");
        for kind in Kind::ALL {
            assert!(!kind.title().is_empty() && !kind.advice().is_empty());
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert!(
                docs.contains(&format!("`{}`", kind.name())),
                "docs/operating/api.md lacks {}",
                kind.name()
            );
        }
    }

    #[test]
    fn answer_says_when_to_come_back_and_with_what() {
        let wait = Duration::from_millis(1200);
        let response = Problem::new(Kind::TooOften, "x").retry_after(wait).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let response = Problem::new(Kind::NoToken, "x").into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}

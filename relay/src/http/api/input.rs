//! What comes in: every value is checked, and what is wrong with one is said as a problem.

use super::problem::{Kind, Problem};
use crate::{limits, shared::Shared};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The part of the path that names something.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, shared).await;
        path.map(|axum::extract::Path(value)| Self(value))
            .map_err(|error| Problem::new(Kind::BadRequest, format!("in the path: {}", error.body_text())))
    }
}

/// What stands behind the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|error| Problem::new(Kind::BadRequest, format!("in the query: {}", error.body_text())))
    }
}

/// A JSON body of a size and within a time.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequest<Arc<Shared>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Shared>) -> Result<Self, Problem> {
        // Also what keeps web pages out: they cannot send this without asking first.
        if !is_json(request.headers()) {
            return Err(Problem::new(Kind::NotJson, "Content-Type is not application/json"));
        }
        let body = read(request.into_body()).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Problem::new(Kind::BadRequest, format!("in the body: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let reading = Limited::new(body, limits::MAX_API_BODY_BYTES).collect();
    match tokio::time::timeout(limits::FIRST_WORD_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("at most {} bytes are taken", limits::MAX_API_BODY_BYTES);
            Err(Problem::new(Kind::TooLarge, detail))
        }
        Ok(Err(error)) => Err(Problem::new(Kind::BadRequest, format!("the body cannot be read: {error}"))),
        Err(_) => Err(Problem::new(Kind::BodyTooSlow, "the body was not there in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        let is_json = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(is_json("application/json") && is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("text/plain") && !is_json("application/jsonp") && !self::is_json(&HeaderMap::new()));
    }
}

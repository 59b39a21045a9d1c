//! Fetching an issuer's keys: its discovery document, then the keys it names. HTTPS only, verified against the roots of
//! the system (or `SSL_CERT_FILE`), through the proxy of the environment. No redirects: these are documents at fixed places.

use super::keys::KeySource;
use bytes::Bytes;
use converge_transport::{
    ProxyChoice,
    dial::web::{
        WebServer,
        get::{self, GetError},
    },
};
use http::{
    Request, StatusCode,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::Empty;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// For both documents together: below the time that a relay gives a peer for its registration.
const TIME_LIMIT: Duration = Duration::from_secs(6);
/// Larger documents are not read; GitHub's keys are some 10 KiB.
const MAX_BYTES: usize = 512 * 1024;
/// Keys that are kept of one issuer.
const MAX_KEYS: usize = 100;
const AGENT: &str = concat!("converge-relay/", env!("CARGO_PKG_VERSION"));

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {} s", TIME_LIMIT.as_secs())]
    Slow,
    #[error("{url}: {error}")]
    Get { url: String, error: GetError },
    #[error("{url} answers {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} is not what it should be: {detail}")]
    Content { url: String, detail: String },
    #[error("{0} is no https:// URL")]
    Url(String),
    #[error("its discovery document is that of another issuer, {0:?}")]
    OtherIssuer(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// The keys as they are now.
pub(super) async fn keys(source: &KeySource, proxy: &ProxyChoice) -> Result<Vec<Jwk>, FetchError> {
    let fetching = async {
        let url = if let Some(url) = &source.jwks_url {
            url.clone()
        } else {
            let issuer = source.issuer.trim_end_matches('/');
            let discovery: Discovery =
                json(&format!("{issuer}/.well-known/openid-configuration"), proxy).await?;
            if discovery.issuer != source.issuer {
                let other = discovery.issuer.chars().take(100).collect();
                return Err(FetchError::OtherIssuer(other));
            }
            discovery.jwks_uri
        };
        let set: KeySet = json(&url, proxy).await?;
        // A key of a kind that we do not know does not spoil the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(keys.take(MAX_KEYS).collect())
    };
    timeout(TIME_LIMIT, fetching).await.unwrap_or(Err(FetchError::Slow))
}

async fn json<T: for<'de> Deserialize<'de>>(url: &str, proxy: &ProxyChoice) -> Result<T, FetchError> {
    let shown = || url.chars().take(200).collect::<String>();
    let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "https");
    let parsed = parsed.ok_or_else(|| FetchError::Url(shown()))?;
    let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
        return Err(FetchError::Url(shown()));
    };
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = WebServer { host: unbracketed, port, tls: true };
    let authority = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = &parsed[url::Position::BeforePath..url::Position::AfterQuery];
    let content = |detail: String| FetchError::Content { url: shown(), detail };
    let request = Request::get(target)
        .header(HOST, authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| content(error.to_string()))?;
    let failed = |error| FetchError::Get { url: shown(), error };
    let answer = get::get(&server, request, proxy).await.map_err(failed)?;
    let status = answer.response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Status { url: shown(), status });
    }
    let body = answer.body(MAX_BYTES).await.map_err(failed)?;
    serde_json::from_slice(&body).map_err(|error| content(error.to_string()))
}

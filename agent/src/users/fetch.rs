//! Fetching one list: HTTP/1.1 over a connection that goes the same way as everything else (proxy, TLS roots).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use converge_transport::ProxyChoice;
use converge_transport::dial::web::{
    WebServer, WebServerError,
    get::{self, Answer, GetError},
};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use tokio::time::timeout;

use super::source::{InvalidSource, ListSource};
use crate::users::authorized_keys::KeyList;

/// How often a server may send us elsewhere: from a bare host to its usual name, and from there to where the file is.
const MAX_REDIRECTS: usize = 3;
/// Servers see who asks; some refuse those who do not say.
const AGENT: &str = concat!("converge-agent/", env!("CARGO_PKG_VERSION"));

/// Limits and times of lists that are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// A longer list gives no key at all. Default: 1 MiB, as for files; some ten thousand keys.
    pub max_bytes: usize,
    /// From the first packet to the last byte. Default: 10 s. It is also the longest that a stranger's login attempt
    /// can wait for a list.
    pub time_limit: Duration,
    /// How old a list gets before it is fetched again in the background, and so how long a key that was removed at its
    /// source still works. Default: 5 minutes: a dozen small requests an hour, which no site minds.
    pub refresh: Duration,
    /// The shortest time between two tries: after a failure, and when somebody comes with a key that is on no list.
    /// Default: 1 minute: who has just added a key need not wait long, and strangers cannot make us hammer a site.
    pub retry: Duration,
    /// How long the last good list is used while it cannot be fetched again. Default: 1 hour: longer than most outages,
    /// and a bound on how long a removed key can be kept alive by whoever cuts us off from its source.
    pub keep: Duration,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024,
            time_limit: Duration::from_secs(10),
            refresh: Duration::from_mins(5),
            retry: Duration::from_mins(1),
            keep: Duration::from_hours(1),
        }
    }
}

/// Why there is no list.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection.
    #[error("{}; {}", .0, .0.advice())]
    Connect(Arc<WebServerError>),
    /// Not all of it has come in time.
    #[error("not all of it has come within {} s; try again, or look whether the server is well", .0.as_secs_f32())]
    Slow(Duration),
    /// Over [`FetchSettings::max_bytes`].
    #[error("longer than {0} bytes, so none of it is used")]
    TooLong(usize),
    /// Not there: no such user, or no such file.
    #[error("the server knows no such user or file (status {}); check the name", .0.as_u16())]
    NotThere(StatusCode),
    /// For those who have logged in only.
    #[error(
        "the server wants a login (status {}); name a list that anybody may read, or one with a token in its query",
        .0.as_u16()
    )]
    Login(StatusCode),
    /// The server is not well, or wants to be asked less often.
    #[error("the server answers {0} instead of a list; try again later")]
    Status(StatusCode),
    /// To a place where we do not go, or to none.
    #[error("the server sends us elsewhere (status {}): {error}", .status.as_u16())]
    Redirect {
        /// With which status.
        status: StatusCode,
        /// What is wrong with it.
        error: InvalidSource,
    },
    /// In circles, perhaps.
    #[error("the server sends us elsewhere more than {MAX_REDIRECTS} times")]
    Redirects,
    /// A page for people.
    #[error(
        "the server answers with a web page instead of a list of keys; open it in a browser: the network, or the site, may \
         want a login first"
    )]
    WebPage,
    /// Text, and not one key in it.
    #[error("not a list of keys: {0}")]
    NoKeys(String),
    /// No HTTP that makes sense.
    #[error("the server does not answer as a web server does: {0}")]
    Protocol(String),
}

impl FetchError {
    /// Whether this is a definite answer: what was there before is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NotThere(_))
    }
}

/// The list as it is now. An empty one is a list too: a user who has removed all keys.
pub(super) async fn fetch(
    source: &ListSource,
    proxy: &ProxyChoice,
    settings: &FetchSettings,
) -> Result<KeyList, FetchError> {
    let fetching = timeout(settings.time_limit, body(source, proxy, settings.max_bytes));
    let body = fetching.await.map_err(|_| FetchError::Slow(settings.time_limit))??;
    let list = KeyList::parse(&source.to_string(), &body);
    // One line that makes no sense among good ones is a matter for the log; nothing else is not a list.
    match list.problems().first() {
        Some(_) if looks_like_a_page(&body) => Err(FetchError::WebPage),
        Some(problem) if list.entries().is_empty() => Err(FetchError::NoKeys(problem.kind.to_string())),
        _ => Ok(list),
    }
}

fn looks_like_a_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

async fn body(source: &ListSource, proxy: &ProxyChoice, max_bytes: usize) -> Result<Bytes, FetchError> {
    let mut place = source.clone();
    for _ in 0..=MAX_REDIRECTS {
        let answer = get(&place, proxy).await?;
        let status = answer.response.status();
        match status {
            StatusCode::OK => return read(answer, max_bytes).await,
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let location = answer.response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let location = location.ok_or(FetchError::Status(status))?;
                place = place.redirected(location).map_err(|error| FetchError::Redirect { status, error })?;
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::NotThere(status)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(FetchError::Login(status)),
            _ => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::Redirects)
}

async fn get(place: &ListSource, proxy: &ProxyChoice) -> Result<Answer, FetchError> {
    let server = WebServer { host: place.host(), port: place.port(), tls: place.has_tls() };
    let request = Request::get(place.target())
        .header(HOST, place.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "text/plain, */*;q=0.5")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Protocol(error.to_string()))?;
    Ok(get::get(&server, request, proxy).await?)
}

async fn read(answer: Answer, max_bytes: usize) -> Result<Bytes, FetchError> {
    let headers = answer.response.headers();
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("text/html") {
        return Err(FetchError::WebPage);
    }
    Ok(answer.body(max_bytes).await?)
}

impl From<GetError> for FetchError {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Connect(error) => Self::Connect(error),
            GetError::TooLong(max_bytes) => Self::TooLong(max_bytes),
            GetError::Protocol(error) => Self::Protocol(error),
        }
    }
}

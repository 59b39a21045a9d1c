//! What the agent shows its relay to be let in.
//!
//! CI systems' tokens are good for minutes, and an agent may register again after hours, so a token is got afresh for
//! each registration. It is never in the environment of sessions, in logs or in what is printed for people.

use bytes::Bytes;
use converge_proto::{
    RelayUrl,
    rendezvous::{Token, token::InvalidToken},
};
use converge_transport::{
    ProxyChoice,
    dial::web::{
        WebServer,
        get::{self, GetError},
    },
};
use http::{
    Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
};
use http_body_util::Empty;
use serde::Deserialize;
use std::{io, path::PathBuf, process::Stdio, time::Duration};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};
use url::Url;

/// GitHub answers in well under a second.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A program may have to ask somebody, too.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// More than any token, and less than what a wrong file or program could give.
const MAX_BYTES: usize = 64 * 1024;
const AGENT: &str = concat!("converge-agent/", env!("CARGO_PKG_VERSION"));

/// Where tokens come from.
#[derive(Clone, Debug, Default)]
pub enum TokenSource {
    /// There is none.
    #[default]
    None,
    /// This one.
    Given(Token),
    /// What is in this file at that moment.
    File(PathBuf),
    /// What this prints, run by `sh`.
    Command(String),
    /// GitHub makes one for this job.
    GitHub(GitHubTokens),
}

/// How a job of GitHub Actions with `id-token: write` gets a token of its own.
#[derive(Clone, Debug)]
pub struct GitHubTokens {
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`
    pub url: Url,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`
    pub bearer: Token,
    /// Whom the token is to be for: the relay.
    pub audience: String,
    /// How GitHub is reached.
    pub proxy: ProxyChoice,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file cannot be read.
    #[error("cannot read the token in {path}: {source}; see --token-file")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no token.
    #[error("what {place} gives is no token: {error}")]
    Invalid {
        /// Where it was found.
        place: String,
        /// What is wrong.
        error: InvalidToken,
    },
    /// A program did not do it.
    #[error("the program of --token-command gives no token: {0}")]
    Command(String),
    /// GitHub does not give one.
    #[error("GitHub gives no token: {0}")]
    GitHub(String),
}

impl TokenSource {
    /// A token as of now, if there is to be one. Takes thirty seconds at most. Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// [`TokenError`]. That GitHub gives none is not an error, as nobody has asked for one and the relay may not want one.
    pub async fn fresh(&self) -> Result<Option<Token>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Given(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let failed = |source| TokenError::File { path: path.clone(), source };
                let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
                let mut bytes = Vec::new();
                (&mut file).take(MAX_BYTES as u64).read_to_end(&mut bytes).await.map_err(failed)?;
                parse(&bytes, || path.display().to_string()).map(Some)
            }
            Self::Command(command) => {
                let printed = timeout(COMMAND_TIMEOUT, output(command)).await;
                let bytes = printed.map_err(|_| {
                    TokenError::Command(format!("it has not ended within {} s", COMMAND_TIMEOUT.as_secs()))
                })??;
                parse(&bytes, || "the program of --token-command".to_owned()).map(Some)
            }
            Self::GitHub(github) => {
                let fetched = timeout(FETCH_TIMEOUT, github.fetch()).await;
                let slow = || TokenError::GitHub(format!("no answer within {} s", FETCH_TIMEOUT.as_secs()));
                match fetched.unwrap_or_else(|_| Err(slow())) {
                    Ok(token) => Ok(Some(token)),
                    Err(error) => {
                        tracing::warn!(%error, "registering without a token");
                        Ok(None)
                    }
                }
            }
        }
    }
}

/// A token in a file or in what a program prints may have an end of line behind it.
fn parse(bytes: &[u8], place: impl Fn() -> String) -> Result<Token, TokenError> {
    let text = String::from_utf8_lossy(bytes);
    text.trim().parse().map_err(|error| TokenError::Invalid { place: place(), error })
}

async fn output(command: &str) -> Result<Vec<u8>, TokenError> {
    let failed = |error: io::Error| TokenError::Command(error.to_string());
    let mut program = Command::new("sh");
    program.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().map_err(failed)?;
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_BYTES as u64).read_to_end(&mut bytes).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(bytes) } else { Err(TokenError::Command(format!("it ends with {status}"))) }
}

impl GitHubTokens {
    /// From the variables that GitHub sets in jobs with `permissions: id-token: write`, and in no others.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        audience: String,
        proxy: ProxyChoice,
    ) -> Option<Self> {
        let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL")?.parse().ok()?;
        let bearer = variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?.parse().ok()?;
        Some(Self { url, bearer, audience, proxy })
    }

    async fn fetch(&self) -> Result<Token, TokenError> {
        #[derive(Deserialize)]
        struct Answer {
            value: String,
        }

        let failed = TokenError::GitHub;
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", &self.audience);
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(failed("its URL has no host".to_owned()));
        };
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let unbracketed = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = WebServer { host: unbracketed, port, tls: url.scheme() == "https" };
        let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(HOST, authority)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.bearer.secret()))
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let get_failed = |error: GetError| failed(error.to_string());
        let answer = get::get(&server, request, &self.proxy).await.map_err(get_failed)?;
        let status = answer.response.status();
        if status != StatusCode::OK {
            return Err(failed(format!("it answers {status}")));
        }
        let body = answer.body(MAX_BYTES).await.map_err(get_failed)?;
        // The library's own words could have a part of the token in them.
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| failed("its answer has no token in it".to_owned()))?;
        parse(answer.value.as_bytes(), || "GitHub".to_owned())
    }
}

/// Whom a token is to be for, unless somebody says otherwise: the relay as people know it.
pub fn audience(relay: &RelayUrl) -> String {
    relay.with_scheme(relay.http_scheme(), "").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fresh(source: TokenSource) -> Result<String, String> {
        let token = source.fresh().await.map_err(|error| error.to_string())?;
        Ok(token.map(|token| token.secret().to_owned()).unwrap_or_default())
    }

    #[tokio::test]
    async fn tokens_are_read_afresh_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = TokenSource::File(path.clone());
        assert!(fresh(source.clone()).await.unwrap_err().contains("--token-file"));
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(fresh(source.clone()).await.as_deref(), Ok(token));
        }
        let print = TokenSource::Command(format!("cat '{}'", path.display()));
        assert_eq!(fresh(print).await.as_deref(), Ok("second"));
        assert_eq!(fresh(TokenSource::None).await.as_deref(), Ok(""));
    }

    #[tokio::test]
    async fn what_is_no_token_is_said_without_showing_it() {
        let error = fresh(TokenSource::Command("echo hunter2 hunter3".to_owned())).await.unwrap_err();
        assert!(error.contains("--token-command") && !error.contains("hunter"), "{error}");
        let error = fresh(TokenSource::Command("echo x; exit 3".to_owned())).await.unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
        let error = fresh(TokenSource::Command("true".to_owned())).await.unwrap_err();
        assert!(error.contains("empty"), "{error}");
        let error = fresh(TokenSource::Command("yes".to_owned())).await.unwrap_err();
        assert!(error.len() < 300, "{error}");
    }

    #[test]
    fn audience_is_the_relay_as_people_know_it() {
        let pin = "A".repeat(43);
        for (relay, expected) in [
            (format!("https://relay.example:4433#pin-sha256={pin}"), "https://relay.example:4433"),
            ("wss://relay.example".to_owned(), "https://relay.example"),
            ("quic://relay.example/base".to_owned(), "https://relay.example/base"),
            ("ws://127.0.0.1:80".to_owned(), "http://127.0.0.1"),
        ] {
            assert_eq!(audience(&relay.parse().unwrap()), expected);
        }
    }

    #[test]
    fn github_is_asked_only_where_it_offers() {
        let proxy = || ProxyChoice::from_option(Some("none")).unwrap();
        let both = |name: &str| match name {
            "ACTIONS_ID_TOKEN_REQUEST_URL" => Some("https://x.example/token?api-version=2.0".to_owned()),
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN" => Some("secret".to_owned()),
            _ => None,
        };
        let github = GitHubTokens::from_variables(both, "https://relay".to_owned(), proxy()).unwrap();
        assert!(!format!("{github:?}").contains("secret"));
        let url_only = |name: &str| both(name).filter(|value| value.starts_with("https"));
        assert!(GitHubTokens::from_variables(url_only, String::new(), proxy()).is_none());
    }
}

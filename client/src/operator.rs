//! The relay's API, as an operator uses it: one connection, one request at a time.

use crate::error::ClientError;
use bytes::Bytes;
use converge_proto::{Id, RelayUrl, RelayUrls, rendezvous::Token};
use converge_transport::{DialOptions, dial::http as dialing};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// An answer is a page of at most a thousand agents, of about a kilobyte each.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Longer than the relay gives itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
const PROGRAM: &str = concat!("converge/", env!("CARGO_PKG_VERSION"));

/// A relay, and what it lets us in by.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The relay, or several of which any will do.
    pub relays: RelayUrls,
    /// How to dial it.
    pub options: DialOptions,
    /// What is shown to it.
    pub token: Option<Token>,
}

/// A connection to the API.
pub struct Connection<'a> {
    operator: &'a Operator,
    /// The one that has answered.
    relay: &'a RelayUrl,
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// What the API says when it says no (RFC 9457), as far as a person needs it.
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// What happened.
    pub detail: String,
    /// What to do about it.
    pub advice: String,
}

impl Operator {
    /// Connects to the relay: of several to the first that answers, and again to that one for as long as it does.
    ///
    /// # Errors
    /// [`ClientError::Dial`], or what the relay answers instead of HTTP.
    pub async fn connect(&self) -> Result<Connection<'_>, ClientError> {
        let (io, relay) = dialing::connect(&self.relays, &self.options)
            .await
            .map_err(|error| ClientError::Dial { error })?;
        self.options.relays.prefer(&relay.clone().into());
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(async move {
            // What fails here fails in the request, too.
            let _ = connection.await;
        });
        Ok(Connection { operator: self, relay, sender, _driver: AbortOnDropHandle::new(driver) })
    }
}

impl<'a> Connection<'a> {
    /// The relay that is asked.
    pub fn relay(&self) -> &'a RelayUrl {
        self.relay
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        let request = self.request(Method::GET, path, "application/json", Bytes::new())?;
        self.answer(request).await
    }

    /// The answer to a request to do something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.request(Method::POST, path, "application/json", Bytes::from(body.to_string()))?;
        self.answer(request).await
    }

    /// What happens from now on behind event `after`. The connection serves nothing else from then on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&mut self, after: u64) -> Result<Events, ClientError> {
        let path = format!("events?after={after}");
        let request = self.request(Method::GET, &path, "text/event-stream", Bytes::new())?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(read(response)
                .await
                .err()
                .unwrap_or_else(|| ClientError::ApiBroken("no events".to_owned())));
        }
        Ok(Events(response.into_body()))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let relay = self.relay;
        let mut request = Request::builder()
            .method(method)
            .uri(relay.path(&format!("api/v1/{path}")))
            .header(HOST, relay.authority())
            .header(USER_AGENT, PROGRAM)
            .header(ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.operator.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.secret()))
                .map_err(|error| ClientError::Usage(error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(|error| ClientError::Usage(error.to_string()))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let sending = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, sending).await {
            Ok(response) => response.map_err(|error| broken(&error)),
            Err(_) => Err(ClientError::ApiBroken("no answer".to_owned())),
        }
    }

    async fn answer(&mut self, request: Request<Full<Bytes>>) -> Result<Value, ClientError> {
        let response = self.send(request).await?;
        match tokio::time::timeout(ANSWER_TIMEOUT, read(response)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::ApiBroken("it stopped in the middle of an answer".to_owned())),
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Value, ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| {
        ClientError::ApiBroken(if error.is::<LengthLimitError>() {
            "the answer is longer than any that makes sense".to_owned()
        } else {
            error.to_string()
        })
    })?;
    let body = body.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| ClientError::ApiBroken(format!("its answer makes no sense: {error}")));
    }
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem { detail, advice }) => {
            ClientError::Api { status: status.as_u16(), detail: clean(&detail), advice: clean(&advice) }
        }
        Err(_) => ClientError::Api {
            // Whatever it is, it is not a matter of the ID.
            status: if status == StatusCode::NOT_FOUND { 400 } else { status.as_u16() },
            detail: format!("what answers at the relay's URL has no API (status {})", status.as_u16()),
            advice: "check the URL, and upgrade the relay if it is older than this program".to_owned(),
        },
    })
}

fn broken(error: &hyper::Error) -> ClientError {
    ClientError::ApiBroken(error.to_string())
}

/// What a relay or an agent wrote, for a terminal: nothing in it may move the cursor.
pub fn clean(text: &str) -> String {
    converge_proto::Text::<512>::new(text).to_string()
}

/// The events of a relay as they come.
pub struct Events(Incoming);

impl Events {
    /// Waits until something has happened. Returns `false` when there will be no more. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        loop {
            match self.0.frame().await {
                Some(Ok(frame)) => {
                    let is_event = frame.data_ref().is_some_and(|data| !data.starts_with(b":"));
                    if is_event {
                        return true;
                    }
                }
                Some(Err(_)) | None => return false,
            }
        }
    }
}

/// The ID in an answer.
pub fn id_in(value: &Value) -> Option<Id> {
    value.get("id")?.as_str()?.parse().ok()
}

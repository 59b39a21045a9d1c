//! One HTTP/1.1 request to a web server, over a connection that is used once.

use super::{WebServer, WebServerError, connect};
use crate::proxy::ProxyChoice;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// An answer whose body has not been read yet. The connection ends with it.
#[derive(Debug)]
pub struct Answer {
    /// Status, headers and body.
    pub response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// Why there is no answer, or not all of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GetError {
    /// No connection.
    #[error("{}; {}", .0, .0.advice())]
    Connect(Arc<WebServerError>),
    /// The body is longer than what was allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// No HTTP that makes sense.
    #[error("the server does not answer as a web server does: {0}")]
    Protocol(String),
}

/// Asks. The request's URI is the path alone, and it has a `Host`. Whoever calls limits the time; dropped, it leaves
/// nothing behind.
///
/// # Errors
/// [`GetError`]. A status that is no success is not an error here.
pub async fn get(
    server: &WebServer,
    request: Request<Empty<Bytes>>,
    proxy: &ProxyChoice,
) -> Result<Answer, GetError> {
    let io = connect(server, proxy).await.map_err(|error| GetError::Connect(Arc::new(error)))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|error| protocol(&error))?;
    // How it ends, whoever waits for the answer or reads the body sees.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(|error| protocol(&error))?;
    Ok(Answer { response, _connection: connection })
}

impl Answer {
    /// The body, which may have so many bytes.
    ///
    /// # Errors
    /// [`GetError::TooLong`], or the connection broke.
    pub async fn body(self, max_bytes: usize) -> Result<Bytes, GetError> {
        match Limited::new(self.response.into_body(), max_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(GetError::TooLong(max_bytes)),
            Err(error) => Err(GetError::Protocol(error.to_string())),
        }
    }
}

fn protocol(error: &hyper::Error) -> GetError {
    // "invalid HTTP version parsed", "connection closed before message completed".
    GetError::Protocol(error.to_string())
}

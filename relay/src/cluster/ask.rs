//! A question to another relay's API, and its answer: one request of HTTP/1.1 on a stream of its own.
//!
//! Whoever asks has been let in here already. What they may see and do goes along, and holds there.

use super::{Cluster, links::ClusterError};
use crate::access::Grant;
use bytes::Bytes;
use converge_proto::{
    RelayNumber,
    cluster::Ask,
    rendezvous::{Message, messages::Name},
};
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};

/// The longest answer that is read: a page of a thousand agents that say all they can.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// On whose behalf.
    pub(crate) on_behalf: OnBehalf,
    /// What is to be done.
    pub(crate) method: Method,
    /// At which path, with its query.
    pub(crate) path: Uri,
    /// JSON, or nothing.
    pub(crate) body: Bytes,
    /// How long the answer may take, all in all.
    pub(crate) limit: Duration,
}

/// Who was let in, and to what.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnBehalf {
    /// By what.
    pub(crate) grant: Grant,
    /// Whether it is for changes too.
    pub(crate) may_write: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Unreachable(#[from] ClusterError),
    #[error("relay {0} does not answer")]
    Silent(RelayNumber),
    #[error("relay {relay} does not answer as it should: {why}")]
    Broken { relay: RelayNumber, why: String },
}

impl OnBehalf {
    fn to_ask(&self) -> Ask {
        Ask {
            may_write: self.may_write,
            token: self.grant.token.as_deref().map(Name::new),
            // A pattern is no longer than an ID and a star, so nothing of it is cut off.
            ids: self.grant.ids.as_ref().map(|pattern| Name::new(pattern.to_string())),
        }
    }
}

/// Asks, and reads all of the answer.
///
/// # Errors
/// [`AskError`]. What was asked for may have been done nevertheless, unless the relay could not be reached.
pub(crate) async fn ask(
    cluster: &Arc<Cluster>,
    relay: RelayNumber,
    question: Question,
) -> Result<Response<Bytes>, AskError> {
    let limit = question.limit;
    let answer = tokio::time::timeout(limit, ask_at_length(cluster.clone(), relay, question));
    answer.await.unwrap_or(Err(AskError::Silent(relay)))
}

async fn ask_at_length(
    cluster: Arc<Cluster>,
    relay: RelayNumber,
    question: Question,
) -> Result<Response<Bytes>, AskError> {
    let broken = |why: &dyn std::fmt::Display| AskError::Broken { relay, why: why.to_string() };
    // A dial goes on when nobody waits for this answer any more: what it finds out is for the next one too. It ends by its
    // own limits.
    let opening = tokio::spawn(async move { cluster.open_stream(relay).await });
    let mut there = opening.await.map_err(|error| broken(&error))??;
    there.stream.send.write_frame(&question.on_behalf.to_ask().to_frame()).await.map_err(|e| broken(&e))?;
    let io = TokioIo::new(tokio::io::join(there.stream.recv, there.stream.send));
    let (mut sender, connection) = http1::handshake(io).await.map_err(|error| broken(&error))?;
    let request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(header::HOST, "relay")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(question.body))
        .map_err(|error| broken(&error))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        // The connection's end may be the end of the answer.
        _ = connection => answering.await,
    }
}

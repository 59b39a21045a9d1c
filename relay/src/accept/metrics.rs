//! The listener that is for metrics alone.
//!
//! It has no part in the limits of the others, and reads no PROXY protocol: what is counted is of interest most when strangers
//! have taken every connection. It serves until the relay has ended, so that a drain can be watched, too.

use super::ACCEPT_PAUSE;
use crate::{http, shared::Shared};
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt;
use tracing::warn;

/// Connections at the same time; more wait.
const MAX_CONNECTIONS: usize = 32;
/// What a connection may take in all; Prometheus keeps one and opens another when it is closed.
const MAX_TIME: Duration = Duration::from_mins(5);

/// Accepts until the relay ends.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let router = http::metrics_router(shared.clone());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(permit) = room.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, task_shared) = (router.clone(), shared.clone());
                    shared.spawn(async move {
                        let serving = serve(&task_shared, stream, router);
                        let _ = tokio::time::timeout(MAX_TIME, serving).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shared.ending.run_until_cancelled(accepting).await;
}

async fn serve(shared: &Shared, stream: TcpStream, router: Router) {
    let service =
        service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.first_word_timeout)
        .serve_connection(TokioIo::new(stream), service);
    // What fails here is the peer's HTTP; hyper has answered it where it could.
    let _ = shared.ending.run_until_cancelled(serving).await;
}

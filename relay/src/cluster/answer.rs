//! What another relay asks of this one's API.
//!
//! The router for it is another one than that of people and programs, so nothing that they send can be taken for another
//! relay's. It answers for this relay alone, and never asks on.

use super::ask::OnBehalf;
use crate::{access::Grant, first_frame, limits, shared::Shared};
use axum::{Router, body::Body};
use converge_proto::{Frame, RelayNumber, cluster::Ask, frame::FrameError, rendezvous::Message};
use converge_transport::Stream;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::ServiceExt;
use tracing::{debug, warn};

/// In the extensions of a request from another relay of this cluster: what those may for whom it asks. That relay has let
/// them in.
#[derive(Clone, Debug)]
pub(crate) struct FromRelay(pub(crate) OnBehalf);

/// Answers one request on a stream that has begun with `first`.
pub(super) async fn serve(
    shared: &Shared,
    router: Router,
    stream: Stream,
    first: &Frame,
    relay: RelayNumber,
) {
    let from = match who(first) {
        Ok(from) => from,
        Err(error) => {
            warn!(%relay, %error, "another relay asks what this one does not understand");
            return first_frame::refuse(stream, &first_frame::refusal_of(&error)).await;
        }
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let Stream { recv, send } = stream;
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.first_word_timeout)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tokio::io::join(recv, send)), service);
    let serving = tokio::time::timeout(limits::REQUEST_TIMEOUT, serving);
    match shared.ending.run_until_cancelled(serving).await {
        Some(Ok(Ok(()))) | None => {}
        Some(Ok(Err(error))) => debug!(%relay, %error, "another relay's question has ended early"),
        Some(Err(_)) => debug!(%relay, "another relay's question has taken too long"),
    }
}

fn who(frame: &Frame) -> Result<FromRelay, FrameError> {
    let ask = Ask::from_frame(frame)?;
    // A pattern that cannot be read is not taken for none: that would show everything.
    let ids = ask.ids.map(|ids| ids.as_str().parse()).transpose().map_err(|_| FrameError::Malformed {
        frame_type: frame.frame_type,
        detail: "the IDs are no pattern".to_owned(),
    })?;
    let grant = Grant { token: ask.token.map(|token| token.as_str().to_owned()), claims: None, ids };
    Ok(FromRelay(OnBehalf { grant, may_write: ask.may_write }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge_proto::rendezvous::messages::Name;

    #[test]
    fn a_pattern_that_makes_no_sense_is_not_taken_for_all_ids() {
        let ask = |ids: &str| Ask { may_write: false, token: None, ids: Some(Name::new(ids)) };
        let from = who(&ask("team-*").to_frame()).unwrap();
        assert!(from.0.grant.admit(&"team-1".parse().unwrap()).is_ok() && !from.0.may_write);
        assert!(from.0.grant.admit(&"other".parse().unwrap()).is_err());
        assert!(who(&ask("NO ID").to_frame()).is_err());
    }
}

//! The opening handshake of WebSockets (RFC 6455 section 4.2): agents at `/agent`, clients at `/client/ID`.

use super::{Connection, pages};
use crate::{
    access::{Credentials, Grant},
    client_stream::{self, Origin, Wanted},
    cluster::forward::{self, Answer, Question},
    first_frame::{self, FirstFrameError},
    limits::Refusal,
    link,
    pairing::{self, Arrival},
    peer::Peer,
    registry::Place,
    shared::Shared,
};
use axum::{
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::{IntoResponse, Response},
};
use converge_proto::{
    Address, Id,
    rendezvous::{ClientInfo, Connect, RefusalCode, Refused, SessionKind, messages::Name},
    version::ProtocolVersion,
};
use converge_transport::{
    Carrier, Link, Stream,
    dial::VERSIONS_HEADER,
    websocket::{
        BoxedIo, Framing, accepted,
        mux::{MuxLink, Side},
    },
};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

/// How the names of our subprotocols begin, in every version.
const SUBPROTOCOL_PREFIX: &str = "converge.";

/// What a client of the opening handshake wants to speak.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// A version of ours.
    Version(ProtocolVersion),
    /// Only versions of ours that this relay does not know.
    UnknownVersions,
    /// Nothing of ours: a foreign tool, with the subprotocol it insists on, if any.
    Foreign(Option<HeaderValue>),
}

fn offer(headers: &HeaderMap) -> Offer {
    let all: Vec<_> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
        .collect();
    if let Some(version) = all.iter().filter_map(|name| ProtocolVersion::from_subprotocol(name)).max() {
        return Offer::Version(version);
    }
    if all.iter().any(|name| name.starts_with(SUBPROTOCOL_PREFIX)) {
        return Offer::UnknownVersions;
    }
    Offer::Foreign(all.first().and_then(|name| HeaderValue::from_str(name).ok()))
}

/// An agent's link.
pub(super) async fn agent(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let (Some(key), Some(connection)) = (websocket_key(request.headers()), connection(&request)) else {
        return (StatusCode::UPGRADE_REQUIRED, "agents open a WebSocket here\n").into_response();
    };
    let Offer::Version(version) = offer(request.headers()) else { return versions() };
    let task_shared = shared.clone();
    let opened = upgrade(&shared, &mut request);
    shared.spawn(async move {
        let Some(io) = opened.await else { return };
        let (sender, receiver) = accepted(io, Framing::Converge).await;
        let link = Link::multiplexed(MuxLink::start(sender, receiver, Side::Accepting), connection.exporter);
        link::serve(&task_shared, link, connection.peer.clone()).await;
    });
    switching(&key, Some(HeaderValue::from_static(version.subprotocol())))
}

/// A client's session, or the page for a browser that follows an agent's address.
pub(super) async fn client(
    State(shared): State<Arc<Shared>>,
    Path(address): Path<String>,
    mut request: Request,
) -> Response {
    let address: Address = match address.parse() {
        Ok(address) => address,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let (Some(key), Some(connection)) = (websocket_key(request.headers()), connection(&request)) else {
        return pages::agent(&shared, &address);
    };
    match offer(request.headers()) {
        Offer::UnknownVersions => versions(),
        Offer::Version(version) => {
            let opened = upgrade(&shared, &mut request);
            let task_shared = shared.clone();
            shared.spawn_session(async move {
                let Some(io) = opened.await else { return };
                let (sender, receiver) = accepted(io, Framing::Converge).await;
                serve_framed(&task_shared, Stream::websocket(sender, receiver), &address.id, &connection)
                    .await;
            });
            switching(&key, Some(HeaderValue::from_static(version.subprotocol())))
        }
        Offer::Foreign(subprotocol) => {
            if shared.draining.is_cancelled() {
                shared.metrics.connect_refused(Carrier::WebSocket, RefusalCode::STOPPING);
                return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", client_stream::stopping().text))
                    .into_response();
            }
            let credentials = Credentials::of_request(request.headers(), request.uri());
            let checked = client_stream::check(&shared, &address.id, &credentials, &connection.peer).await;
            let grant = match checked {
                Ok(grant) => grant,
                Err(refusal) => {
                    shared.metrics.connect_refused(Carrier::WebSocket, refusal.code());
                    return refusal.into_response();
                }
            };
            if shared.registry.find(&address.id).is_none() {
                shared.metrics.connect_refused(Carrier::WebSocket, RefusalCode::NO_SUCH_ID);
                let text = client_stream::no_such_id(&address.id).text;
                return (StatusCode::NOT_FOUND, format!("{text}\n")).into_response();
            }
            let opened = upgrade(&shared, &mut request);
            let task_shared = shared.clone();
            shared.spawn_session(async move {
                let Some(io) = opened.await else { return };
                let (sender, receiver) = accepted(io, Framing::Raw).await;
                let stream = Stream::websocket(sender, receiver);
                serve_raw(&task_shared, stream, &address.id, &connection, grant).await;
            });
            switching(&key, subprotocol)
        }
    }
}

async fn serve_framed(shared: &Shared, mut stream: Stream, id: &Id, connection: &Connection) {
    match first_frame::read(shared, &mut stream).await {
        Ok(frame) => client_stream::serve(shared, stream, &frame, Origin::Path(id), &connection.peer).await,
        Err(error) => {
            debug!(peer = %connection.peer.address, %error, "client refused");
            if matches!(error, FirstFrameError::Silent) {
                shared.gate.refused(Refusal::Silent, connection.peer.address.ip());
            }
            first_frame::refuse_first(stream, &error).await;
        }
    }
}

async fn serve_raw(shared: &Shared, stream: Stream, id: &Id, connection: &Connection, grant: Grant) {
    let peer = &connection.peer;
    let client = ClientInfo {
        software: Name::new("raw WebSocket"),
        address: Some(Name::new(peer.address.to_string())),
    };
    let asked = Instant::now();
    match shared.registry.find(id) {
        Some(Place::Here(agent)) => {
            let arrival =
                Arrival { kind: SessionKind::Raw, client, peer, token: grant.token, is_resumed: false };
            match pairing::open(shared, &agent, arrival).await {
                Ok(session) => {
                    shared.metrics.connected(peer.carrier, false, None, Some(asked.elapsed()));
                    pairing::run(shared, session, stream, id).await;
                }
                Err(refused) => refuse_raw(shared, stream, peer, &refused).await,
            }
        }
        Some(Place::At(elsewhere)) => {
            let connect = Connect {
                id: id.clone(),
                kind: SessionKind::Raw,
                client,
                wait_ms: 0,
                session: None,
                token: None,
                resume: None,
                fell_back: None,
            };
            let (wanted, token) = (Wanted::Session(connect), grant.token.as_deref());
            let question = Question { wanted, has_frames: false, link: None, peer, token };
            if let Answer::Refused(stream, refused) =
                forward::ask(shared, stream, elsewhere.relay, &question).await
            {
                refuse_raw(shared, stream, peer, &refused).await;
            }
        }
        None => refuse_raw(shared, stream, peer, &client_stream::no_such_id(id)).await,
    }
}

async fn refuse_raw(shared: &Shared, stream: Stream, peer: &Peer, refused: &Refused) {
    shared.metrics.connect_refused(peer.carrier, refused.code);
    stream.reset_with(refused.code, refused.text.as_str()).await;
}

fn connection(request: &Request) -> Option<Connection> {
    request.extensions().get().cloned()
}

/// The key of the opening handshake, when the request is one.
fn websocket_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)))
    };
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let wants = has(CONNECTION, "upgrade") && has(UPGRADE, "websocket") && version;
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| wants).cloned()
}

/// The connection itself, once the answer is out; `None` when that did not happen in time.
fn upgrade(shared: &Shared, request: &mut Request) -> impl Future<Output = Option<BoxedIo>> + use<> {
    let upgrade = hyper::upgrade::on(request);
    let timeout = shared.first_word_timeout;
    async move {
        let upgraded = tokio::time::timeout(timeout, upgrade).await.ok()?.ok()?;
        Some(Box::new(TokioIo::new(upgraded)) as BoxedIo)
    }
}

fn switching(key: &HeaderValue, subprotocol: Option<HeaderValue>) -> Response {
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}

/// The peer speaks no version that this relay speaks: say which ones those are.
fn versions() -> Response {
    let versions = ProtocolVersion::list();
    let text = format!("this relay speaks {versions}; upgrade the older of the two\n");
    (StatusCode::BAD_REQUEST, [(VERSIONS_HEADER, versions)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(values: &[&'static str]) -> Offer {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
        }
        offer(&headers)
    }

    #[test]
    fn subprotocol_tells_our_peers_from_foreign_tools() {
        assert_eq!(offered(&["converge.1"]), Offer::Version(ProtocolVersion::V1));
        assert_eq!(offered(&["converge.9, converge.1"]), Offer::Version(ProtocolVersion::V1));
        assert_eq!(offered(&["converge.9", "other"]), Offer::UnknownVersions);
        assert_eq!(offered(&[]), Offer::Foreign(None));
        assert_eq!(offered(&["binary, ssh"]), Offer::Foreign(Some(HeaderValue::from_static("binary"))));
    }

    #[test]
    fn only_a_whole_opening_handshake_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("x"));
        assert_eq!(websocket_key(&headers), None, "no version");
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert_eq!(websocket_key(&headers), Some(HeaderValue::from_static("x")));
    }
}

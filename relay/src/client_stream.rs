//! A client's stream: `Connect` or `Lookup`, and the answer.

use crate::{
    access::{self, Credentials, Grant, Scope},
    first_frame, limits,
    pairing::{self, Arrival},
    peer::Peer,
    registry::Agent,
    shared::Shared,
};
use converge_proto::{
    Frame, FrameType, Id,
    rendezvous::{
        ClientInfo, Connect, Connected, Found, Lookup, Message, RefusalCode, Refused, SessionKind, Token,
        Waiting,
        messages::{Line, Name},
    },
};
use converge_transport::{Link, LinkError, Stream, StreamError};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::debug;

/// What a stream came on.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A link with many streams.
    Link(&'a Link),
    /// A WebSocket of its own, with this ID in its URL.
    Path(&'a Id),
}

/// Serves a stream that began with `first`, until it ends.
pub(crate) async fn serve(shared: &Shared, stream: Stream, first: &Frame, from: Origin<'_>, peer: &Peer) {
    let path_id = match from {
        Origin::Path(id) => Some(id),
        Origin::Link(_) => None,
    };
    let outcome = match first.frame_type {
        FrameType::CONNECT => {
            let connected = match Connect::from_frame(first) {
                Ok(connect) if path_id.is_some_and(|id| *id != connect.id) => Err((stream, other_id())),
                Ok(connect) => connect_session(shared, stream, connect, from, peer).await,
                Err(error) => Err((stream, first_frame::refusal_of(&error))),
            };
            connected.inspect_err(|(_, refused)| shared.metrics.connect_refused(peer.carrier, refused.code))
        }
        FrameType::LOOKUP => match Lookup::from_frame(first) {
            Ok(lookup) if path_id.is_some_and(|id| *id != lookup.id) => Err((stream, other_id())),
            Ok(lookup) => answer_lookup(shared, stream, lookup, peer).await,
            Err(error) => Err((stream, first_frame::refusal_of(&error))),
        },
        _ => Err((
            stream,
            first_frame::refusal_of(&first_frame::unexpected(first, "Connect, Lookup or Register")),
        )),
    };
    if let Err((stream, refused)) = outcome {
        debug!(peer = %peer.address, code = %refused.code, reason = %refused.text, "client refused");
        first_frame::refuse(stream, &refused).await;
    }
}

/// The stream back, with what its peer is to be told.
type Refusal = (Stream, Refused);

fn other_id() -> Refused {
    let text = Line::new("the ID in the frame is not the one in the WebSocket's URL");
    Refused { code: RefusalCode::PROTOCOL_VIOLATION, text }
}

async fn connect_session(
    shared: &Shared,
    stream: Stream,
    connect: Connect,
    from: Origin<'_>,
    peer: &Peer,
) -> Result<(), Refusal> {
    if let SessionKind::Other(number) = connect.kind {
        let text = Line::new(format!("this relay does not know sessions of kind {number}; upgrade it"));
        return Err((stream, Refused { code: RefusalCode::UNSUPPORTED, text }));
    }
    let (stream, grant) = admit(shared, stream, &connect.id, connect.token, peer).await?;
    let (mut stream, agent) = wait_for_agent(shared, stream, &connect.id, connect.wait_ms, peer).await?;
    let asked = Instant::now();
    let client = ClientInfo { address: Some(Name::new(peer.address.to_string())), ..connect.client };
    if let Some(session) = connect.session {
        debug!(%session, id = %connect.id, "a resumable session comes");
    }
    let is_resumed = connect.resume == Some(true);
    let arrival = Arrival { kind: connect.kind, client, peer, token: grant.token, is_resumed };
    match pairing::open(shared, &agent, arrival).await {
        Ok(session) => {
            let _room = match from {
                Origin::Link(link) => Some(link.room()),
                Origin::Path(_) => None,
            };
            let connected =
                Connected { host_key: agent.verified.host_key.clone(), agent: agent.verified.info.clone() };
            let connected = connected.to_frame();
            let answering = stream.send.write_frame(&connected);
            // A failed answer shows in the copying that follows.
            if tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, answering).await.is_ok() {
                shared.metrics.connected(peer.carrier, is_resumed, connect.fell_back, asked.elapsed());
                pairing::run(shared, session, stream, &connect.id).await;
            } else {
                shared.metrics.connect_refused(peer.carrier, RefusalCode::LIMIT);
                tokio::join!(stream.reset(RefusalCode::LIMIT), session.abandon());
            }
            Ok(())
        }
        Err(refused) => Err((stream, refused)),
    }
}

async fn answer_lookup(shared: &Shared, stream: Stream, lookup: Lookup, peer: &Peer) -> Result<(), Refusal> {
    let (stream, _) = admit(shared, stream, &lookup.id, lookup.token, peer).await?;
    let (mut stream, agent) = wait_for_agent(shared, stream, &lookup.id, lookup.wait_ms, peer).await?;
    let found = Found { host_key: agent.verified.host_key.clone(), agent: agent.verified.info.clone() };
    let answering = async {
        stream.send.write_frame(&found.to_frame()).await?;
        stream.send.finish().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, answering).await {
        stream.close().await;
    }
    Ok(())
}

/// Whether the client may have this agent, whether or not it is there.
async fn admit(
    shared: &Shared,
    stream: Stream,
    id: &Id,
    token: Option<Token>,
    peer: &Peer,
) -> Result<(Stream, Grant), Refusal> {
    match check(shared, id, &Credentials::new(token), peer).await {
        Ok(grant) => Ok((stream, grant)),
        Err(refusal) => Err((stream, refusal.refused())),
    }
}

/// The same for credentials from anywhere.
///
/// # Errors
/// [`access::Refusal`].
pub(crate) async fn check(
    shared: &Shared,
    id: &Id,
    credentials: &Credentials,
    peer: &Peer,
) -> Result<Grant, access::Refusal> {
    let grant = shared.access.check(Scope::Client, credentials, peer.address.ip()).await?;
    shared.access.admit(Scope::Client, &grant, id)?;
    Ok(grant)
}

/// Finds the agent, or waits for it while telling the client so.
async fn wait_for_agent(
    shared: &Shared,
    mut stream: Stream,
    id: &Id,
    wait_ms: u32,
    peer: &Peer,
) -> Result<(Stream, Arc<Agent>), Refusal> {
    if shared.draining.is_cancelled() {
        return Err((stream, stopping()));
    }
    // Before the first look, so that no appearance is missed between the look and the wait.
    let mut appearances = shared.registry.appearances();
    if let Some(agent) = shared.registry.find(id) {
        return Ok((stream, agent));
    }
    let wait = Duration::from_millis(wait_ms.into()).min(limits::MAX_WAIT);
    if wait.is_zero() {
        return Err((stream, no_such_id(id)));
    }
    let _stay = match shared.gate.wait(peer.address.ip()) {
        Ok(stay) => stay,
        Err(refusal) => return Err((stream, refusal.refused())),
    };
    let deadline = Instant::now() + wait;
    loop {
        if let Err(error) = tell_waiting(&mut stream, deadline).await {
            debug!(%error, "client gave up waiting");
            return Err((stream, no_such_id(id)));
        }
        let next_word = Instant::now() + limits::WAITING_INTERVAL;
        loop {
            tokio::select! {
                biased;
                () = shared.draining.cancelled() => return Err((stream, stopping())),
                _ = appearances.changed() => if let Some(agent) = shared.registry.find(id) {
                    return Ok((stream, agent));
                },
                () = tokio::time::sleep_until(deadline) => return Err((stream, no_such_id(id))),
                () = tokio::time::sleep_until(next_word) => break,
            }
        }
    }
}

async fn tell_waiting(stream: &mut Stream, deadline: Instant) -> Result<(), StreamError> {
    let left = deadline.saturating_duration_since(Instant::now());
    let waiting = Waiting { left_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX) };
    let waiting = waiting.to_frame();
    let telling = stream.send.write_frame(&waiting);
    let told = tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, telling).await;
    told.unwrap_or(Err(LinkError::Silent.into()))
}

pub(crate) fn no_such_id(id: &Id) -> Refused {
    Refused { code: RefusalCode::NO_SUCH_ID, text: Line::new(format!("no agent has the ID {id}")) }
}

pub(crate) fn stopping() -> Refused {
    Refused { code: RefusalCode::STOPPING, text: Line::new("the relay is stopping; try again in a moment") }
}

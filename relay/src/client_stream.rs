//! A client's stream: `Connect` or `Lookup`, and the answer.

use crate::{
    access::{self, Credentials, Grant, Scope},
    cluster::forward::{self, Answer, Question},
    first_frame,
    limits::{self, Stay},
    pairing::{self, Arrival},
    peer::Peer,
    registry::{Agent, Elsewhere, Place},
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
use tokio::{sync::watch, time::Instant};
use tracing::debug;

/// How many relays are asked for one client; each of them had the agent a moment ago.
const MAX_ASKED: usize = 16;

/// What a stream came on.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A link with many streams.
    Link(&'a Link),
    /// A WebSocket of its own, with this ID in its URL.
    Path(&'a Id),
    /// Another relay, which has let the client in by this token, if by any.
    Relay(Option<&'a str>),
}

impl Origin<'_> {
    /// The relay that the client came to counts what becomes of it; here it is the second one.
    fn is_relay(self) -> bool {
        matches!(self, Self::Relay(_))
    }
}

/// What a client wants.
pub(crate) enum Wanted {
    /// A session.
    Session(Connect),
    /// The agent's host key.
    Key(Lookup),
}

impl Wanted {
    fn id(&self) -> &Id {
        match self {
            Self::Session(connect) => &connect.id,
            Self::Key(lookup) => &lookup.id,
        }
    }

    fn wait(&self) -> Duration {
        let (Self::Session(Connect { wait_ms, .. }) | Self::Key(Lookup { wait_ms, .. })) = self;
        Duration::from_millis((*wait_ms).into()).min(limits::MAX_WAIT)
    }

    fn token(&self) -> Option<Token> {
        let (Self::Session(Connect { token, .. }) | Self::Key(Lookup { token, .. })) = self;
        token.clone()
    }

    /// What the session will be; nothing where none is wanted.
    pub(crate) fn kind(&self) -> Option<SessionKind> {
        match self {
            Self::Session(connect) => Some(connect.kind),
            Self::Key(_) => None,
        }
    }

    /// The same for another relay: what lets the client in here is not for others to see.
    fn forwarded(&self, wait: Duration) -> Self {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        match self {
            Self::Session(connect) => Self::Session(Connect { token: None, wait_ms, ..connect.clone() }),
            Self::Key(lookup) => Self::Key(Lookup { token: None, wait_ms, ..lookup.clone() }),
        }
    }

    /// As the client has said it.
    pub(crate) fn to_frame(&self) -> Frame {
        match self {
            Self::Session(connect) => connect.to_frame(),
            Self::Key(lookup) => lookup.to_frame(),
        }
    }
}

/// Serves a stream that began with `first`, until it ends.
pub(crate) async fn serve(shared: &Shared, stream: Stream, first: &Frame, from: Origin<'_>, peer: &Peer) {
    let wanted = match first.frame_type {
        FrameType::CONNECT => Connect::from_frame(first).map(Wanted::Session),
        FrameType::LOOKUP => Lookup::from_frame(first).map(Wanted::Key),
        _ => Err(first_frame::unexpected(first, "Connect, Lookup or Register")),
    };
    let outcome = match wanted {
        Ok(wanted) if matches!(from, Origin::Path(id) if id != wanted.id()) => Err((stream, other_id())),
        Ok(wanted) => answer(shared, stream, &wanted, from, peer).await,
        Err(error) => Err((stream, first_frame::refusal_of(&error))),
    };
    if let Err((stream, refused)) = outcome {
        if first.frame_type == FrameType::CONNECT && !from.is_relay() {
            shared.metrics.connect_refused(peer.carrier, refused.code);
        }
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

async fn answer(
    shared: &Shared,
    stream: Stream,
    wanted: &Wanted,
    from: Origin<'_>,
    peer: &Peer,
) -> Result<(), Refusal> {
    if let Some(SessionKind::Other(number)) = wanted.kind() {
        let text = Line::new(format!("this relay does not know sessions of kind {number}; upgrade it"));
        return Err((stream, Refused { code: RefusalCode::UNSUPPORTED, text }));
    }
    let grant = match from {
        Origin::Relay(token) => Grant { token: token.map(str::to_owned), ..Grant::default() },
        Origin::Link(_) | Origin::Path(_) => {
            let credentials = Credentials::new(wanted.token());
            match check(shared, wanted.id(), &credentials, peer).await {
                Ok(grant) => grant,
                Err(refusal) => return Err((stream, refusal.refused())),
            }
        }
    };
    let deadline = Instant::now() + wanted.wait();
    let mut seeking = Seeking::new(shared, wanted.id(), from, deadline, peer);
    let mut stream = stream;
    loop {
        let place = match seeking.place(&mut stream).await {
            Ok(place) => place,
            Err(refused) => return Err((stream, refused)),
        };
        let elsewhere = match place {
            // Who is asked for there finds it at its next relay.
            Place::Here(agent) if from.is_relay() && agent.leaving.is_cancelled() => {
                return Err((stream, stopping()));
            }
            Place::Here(agent) => {
                return match wanted {
                    Wanted::Session(connect) => {
                        connect_here(shared, stream, connect, &agent, from, peer, grant).await
                    }
                    Wanted::Key(_) => found_here(stream, &agent).await,
                };
            }
            // It has led here, so it will see by itself that the agent has moved on.
            Place::At(_) if from.is_relay() => return Err((stream, no_such_id(wanted.id()))),
            Place::At(elsewhere) => elsewhere,
        };
        let question = Question {
            wanted: wanted.forwarded(seeking.deadline.saturating_duration_since(Instant::now())),
            has_frames: true,
            link: match from {
                Origin::Link(link) => Some(link),
                Origin::Path(_) | Origin::Relay(_) => None,
            },
            peer,
            token: grant.token.as_deref(),
        };
        match forward::ask(shared, stream, elsewhere.relay, &question).await {
            Answer::Done => return Ok(()),
            Answer::Refused(back, refused) => {
                stream = back;
                seeking.was_refused(elsewhere, refused);
            }
        }
    }
}

/// Answers a client whose agent is here, and copies until the session is over.
async fn connect_here(
    shared: &Shared,
    mut stream: Stream,
    connect: &Connect,
    agent: &Arc<Agent>,
    from: Origin<'_>,
    peer: &Peer,
    grant: Grant,
) -> Result<(), Refusal> {
    let asked = Instant::now();
    let client = ClientInfo { address: Some(Name::new(peer.address.to_string())), ..connect.client.clone() };
    if let Some(session) = connect.session {
        debug!(%session, id = %connect.id, "a resumable session comes");
    }
    let is_resumed = connect.resume == Some(true);
    let arrival = Arrival { kind: connect.kind, client, peer, token: grant.token, is_resumed };
    let session = match pairing::open(shared, agent, arrival).await {
        Ok(session) => session,
        Err(refused) => return Err((stream, refused)),
    };
    let _room = match from {
        Origin::Link(link) => Some(link.room()),
        Origin::Path(_) | Origin::Relay(_) => None,
    };
    let connected =
        Connected { host_key: agent.verified.host_key.clone(), agent: agent.verified.info.clone() };
    let connected = connected.to_frame();
    let answering = stream.send.write_frame(&connected);
    // A failed answer shows in the copying that follows.
    if tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, answering).await.is_ok() {
        if !from.is_relay() {
            shared.metrics.connected(peer.carrier, is_resumed, connect.fell_back, Some(asked.elapsed()));
        }
        pairing::run(shared, session, stream, &connect.id).await;
    } else {
        if !from.is_relay() {
            shared.metrics.connect_refused(peer.carrier, RefusalCode::LIMIT);
        }
        tokio::join!(stream.reset(RefusalCode::LIMIT), session.abandon());
    }
    Ok(())
}

async fn found_here(mut stream: Stream, agent: &Agent) -> Result<(), Refusal> {
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

/// Whether a client may have this agent, whether or not it is there.
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

/// Looks for an agent, and waits for it while telling the client so.
struct Seeking<'a> {
    shared: &'a Shared,
    id: &'a Id,
    from: Origin<'a>,
    deadline: Instant,
    peer: &'a Peer,
    appearances: watch::Receiver<u64>,
    /// Where the answer was no, and what it was.
    refused: Option<(Elsewhere, Refused)>,
    /// How many have been asked.
    asked: usize,
    stay: Option<Stay>,
}

impl<'a> Seeking<'a> {
    fn new(shared: &'a Shared, id: &'a Id, from: Origin<'a>, deadline: Instant, peer: &'a Peer) -> Self {
        // Before the first look, so that no appearance is missed between the look and the wait.
        let appearances = shared.registry.appearances();
        Self { shared, id, from, deadline, peer, appearances, refused: None, asked: 0, stay: None }
    }

    /// Where the agent is. A relay that has said that it is not there is asked again only after the agent has moved.
    async fn place(&mut self, stream: &mut Stream) -> Result<Place, Refused> {
        let is_draining = self.shared.draining.is_cancelled();
        // The agents that are still here are to be found until they go.
        if is_draining && !self.from.is_relay() {
            return Err(stopping());
        }
        // It has moved on at this moment, and this relay will hear of it; all else is the client's to hear.
        let is_final = self.refused.as_ref().is_some_and(|(_, said)| !moves(said.code));
        if is_final {
            return Err(self.last_word());
        }
        if let Some(place) = self.look() {
            return Ok(place);
        }
        if is_draining {
            return Err(stopping());
        }
        if Instant::now() >= self.deadline {
            return Err(self.last_word());
        }
        if self.stay.is_none() {
            let stay = self.shared.gate.wait(self.peer.address.ip());
            self.stay = Some(stay.map_err(limits::Refusal::refused)?);
        }
        loop {
            if let Err(error) = tell_waiting(stream, self.deadline).await {
                debug!(%error, "client gave up waiting");
                return Err(no_such_id(self.id));
            }
            let next_word = Instant::now() + limits::WAITING_INTERVAL;
            loop {
                tokio::select! {
                    biased;
                    () = self.shared.draining.cancelled() => return Err(stopping()),
                    _ = self.appearances.changed() => if let Some(place) = self.look() {
                        return Ok(place);
                    },
                    () = tokio::time::sleep_until(self.deadline) => return Err(self.last_word()),
                    () = tokio::time::sleep_until(next_word) => break,
                }
            }
        }
    }

    fn look(&mut self) -> Option<Place> {
        let place = self.shared.registry.find(self.id)?;
        match (&place, &self.refused) {
            (Place::At(elsewhere), Some((refused, _))) if elsewhere == refused => None,
            (Place::At(_), _) if self.asked >= MAX_ASKED => None,
            _ => Some(place),
        }
    }

    fn was_refused(&mut self, elsewhere: Elsewhere, refused: Refused) {
        self.asked += 1;
        if refused.code == RefusalCode::STOPPING {
            self.deadline = self.deadline.max(Instant::now() + limits::MOVING_WAIT);
        }
        self.refused = Some((elsewhere, refused));
    }

    fn last_word(&mut self) -> Refused {
        match self.refused.take() {
            None => match self.shared.registry.left_behind(self.id) {
                Some(relay) => forward::agent_lost(&format!("relay {relay}, where it was, is not there")),
                None => no_such_id(self.id),
            },
            // The client's own relay stays.
            Some((Elsewhere { relay, .. }, Refused { code: RefusalCode::STOPPING, .. })) => {
                forward::agent_lost(&format!("it is leaving relay {relay}, which stops"))
            }
            Some((_, refused)) => refused,
        }
    }
}

/// Whether a relay that says this had the agent a moment ago, and another one has it soon.
fn moves(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::NO_SUCH_ID | RefusalCode::STOPPING)
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

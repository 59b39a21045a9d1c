//! A client's stream whose agent is at another relay: what it says goes there, and the answer comes back.

use super::links::RelayStream;
use crate::{
    client_stream::{self, Wanted},
    limits,
    metrics::{End, ForwardCounters},
    peer::Peer,
    shared::Shared,
};
use converge_proto::{
    FrameType, RelayNumber,
    cluster::Forward,
    rendezvous::{
        Connect, Message, RefusalCode, Refused, SessionKind,
        messages::{Line, Name},
    },
};
use converge_transport::{
    Carrier, Direction, Link, LinkError, Meter, Stream, StreamError, copy_bidirectional,
};
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// How long the other relay may say nothing: it says that it waits more often, and takes as long for an agent.
const ANSWER_TIMEOUT: Duration =
    limits::WAITING_INTERVAL.saturating_mul(2).saturating_add(limits::AGENT_STREAM_TIMEOUT);

/// What is forwarded.
pub(crate) struct Question<'a> {
    /// What the client has said, without its token: it was let in here.
    pub(crate) wanted: Wanted,
    /// Whether the client reads frames. A tool with a WebSocket and no program of ours reads bytes only.
    pub(crate) has_frames: bool,
    /// The link that the client's stream is on, where that has many streams.
    pub(crate) link: Option<&'a Link>,
    /// Where the client is.
    pub(crate) peer: &'a Peer,
    /// The name of the token that it was let in by.
    pub(crate) token: Option<&'a str>,
}

/// What became of it.
#[expect(clippy::large_enum_variant, reason = "there is one for each client, and not for long")]
pub(crate) enum Answer {
    /// The stream has had what it wanted and has ended.
    Done,
    /// The other relay says no, and the client has not been told.
    Refused(Stream, Refused),
}

/// Asks the other relay on behalf of the client, and copies until the session is over.
pub(crate) async fn ask(
    shared: &Shared,
    mut client: Stream,
    relay: RelayNumber,
    question: &Question<'_>,
) -> Answer {
    let Some(cluster) = &shared.cluster else {
        return Answer::Refused(client, agent_lost("there is no cluster"));
    };
    let is_session = question.wanted.kind().is_some();
    let _stay = match is_session.then(|| shared.gate.session(question.peer.address.ip())).transpose() {
        Ok(stay) => stay,
        Err(refusal) => return Answer::Refused(client, refusal.refused()),
    };
    let mut there = match cluster.open_stream(relay).await {
        Ok(there) => there,
        Err(error) => return Answer::Refused(client, agent_lost(&error.to_string())),
    };
    let _room = question.link.filter(|_| is_session).map(Link::room);
    match answer(shared, &mut client, &mut there.stream, question).await {
        Ok(Some(FrameType::CONNECTED)) => run(shared, client, there, relay, question).await,
        Ok(Some(_)) => client.close().await,
        Ok(None) => there.stream.reset(RefusalCode::NO_SUCH_ID).await,
        Err(Gone::Refused(refused)) => return Answer::Refused(client, refused),
        Err(Gone::Stream(error)) => {
            there.stream.reset(RefusalCode::AGENT_LOST).await;
            return Answer::Refused(client, agent_lost(&format!("relay {relay}: {error}")));
        }
    }
    Answer::Done
}

/// Why there is no answer.
enum Gone {
    Refused(Refused),
    Stream(StreamError),
}

impl From<StreamError> for Gone {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// Passes the question on, and what is said to it up to the answer; returns what that was, or nothing when the client has
/// gone.
async fn answer(
    shared: &Shared,
    client: &mut Stream,
    there: &mut Stream,
    question: &Question<'_>,
) -> Result<Option<FrameType>, Gone> {
    let forward = Forward {
        address: Name::new(question.peer.address.to_string()),
        is_websocket: question.peer.carrier == Carrier::WebSocket,
        token: question.token.map(Name::new),
    };
    there.send.write_frame(&forward.to_frame()).await?;
    there.send.write_frame(&question.wanted.to_frame()).await?;
    let mut asked = Some(Instant::now());
    loop {
        let next = tokio::time::timeout(ANSWER_TIMEOUT, there.recv.read_frame());
        let frame = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return Err(Gone::Refused(client_stream::stopping())),
            frame = next => frame.unwrap_or(Err(LinkError::Silent.into()))?,
        };
        let frame = frame.ok_or(StreamError::from(LinkError::Silent))?;
        if frame.frame_type == FrameType::REFUSED {
            return Err(Gone::Refused(Refused::from_frame(&frame).map_err(StreamError::from)?));
        }
        let is_last = matches!(frame.frame_type, FrameType::CONNECTED | FrameType::FOUND);
        // Only the other relay knows when the wait has ended.
        asked = asked.filter(|_| is_last);
        if question.has_frames {
            let telling = async {
                client.send.write_frame(&frame).await?;
                if frame.frame_type == FrameType::FOUND { client.send.finish().await } else { Ok(()) }
            };
            match tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, telling).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
        if is_last {
            if let Wanted::Session(Connect { resume, fell_back, .. }) = &question.wanted {
                let took = asked.map(|asked| asked.elapsed());
                shared.metrics.connected(question.peer.carrier, *resume == Some(true), *fell_back, took);
            }
            return Ok(Some(frame.frame_type));
        }
    }
}

/// Copies until the session is over, or this relay is. The other relay has it among its sessions.
async fn run(
    shared: &Shared,
    mut client: Stream,
    mut there: RelayStream,
    relay: RelayNumber,
    question: &Question<'_>,
) {
    let peer = question.peer;
    info!(peer = %peer.address, %relay, "session goes on to another relay");
    let meter = Forwarding(shared.metrics.forwarding());
    let result = tokio::select! {
        biased; // The reason of a relay's end is truer than what its streams make of it.
        () = shared.ending.cancelled() => Err((End::RelayStopped, StreamError::from(LinkError::ClosedHere))),
        () = shared.turn_to_leave(), if question.wanted.kind() == Some(SessionKind::Resumable) => {
            Err((End::RelayStopped, StreamError::from(LinkError::ClosedHere)))
        }
        result = copy_bidirectional(&mut client, &mut there.stream, &meter) => {
            result.map_err(|error| (End::Cut, error))
        }
    };
    match result {
        Ok(()) => drop(tokio::join!(client.close(), there.stream.close())),
        Err((end, error)) => {
            debug!(peer = %peer.address, %relay, %error, "a session to another relay is cut");
            let (code, words) = match (end, &error) {
                (End::RelayStopped, _) => (RefusalCode::STOPPING, "the relay has stopped".to_owned()),
                // It is the agent's relay that stops, and not the one the client is at.
                (_, StreamError::Reset(code)) if *code != RefusalCode::STOPPING => {
                    (*code, format!("the session was cut: {error}"))
                }
                (_, StreamError::TextMessage) => (RefusalCode::PROTOCOL_VIOLATION, error.to_string()),
                _ => (RefusalCode::AGENT_LOST, format!("the session was cut: {error}")),
            };
            tokio::join!(client.reset_with(code, &words), there.stream.reset(code));
        }
    }
}

pub(crate) fn agent_lost(why: &str) -> Refused {
    let text = format!("the agent cannot be reached: {why}; try again in a moment");
    Refused { code: RefusalCode::AGENT_LOST, text: Line::new(text) }
}

/// Counts what passes.
struct Forwarding(ForwardCounters);

impl Meter for Forwarding {
    async fn pass(&self, direction: Direction, bytes: usize) {
        self.0.passed(direction, bytes);
    }
}

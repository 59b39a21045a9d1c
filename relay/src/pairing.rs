//! One session: a client's stream and an agent's, and the bytes between them.

use crate::{
    directory::{NewSession, SessionStay, Traffic},
    limits::{self, Refusal, Share, Stay, Way},
    metrics::{End, SessionCounters},
    peer::Peer,
    registry::Agent,
    shared::Shared,
};
use converge_proto::{
    Id,
    rendezvous::{
        ClientInfo, Incoming, Message, RefusalCode, Refused, SessionKind,
        messages::{Line, Name},
    },
};
use converge_transport::{Direction, LinkError, Meter, Room, Stream, StreamError, copy_bidirectional};
use std::sync::Arc;
use tokio::sync::SemaphorePermit;
use tracing::info;

/// A client that comes for a session.
pub(crate) struct Arrival<'a> {
    /// What its bytes are.
    pub(crate) kind: SessionKind,
    /// What it says of itself, with its address as the relay sees it.
    pub(crate) client: ClientInfo,
    /// Where it comes from.
    pub(crate) peer: &'a Peer,
    /// The name of the token that it was let in by.
    pub(crate) token: Option<String>,
    /// Whether the session was there before.
    pub(crate) is_resumed: bool,
}

/// An agent's stream that has been told who comes.
pub(crate) struct Session<'a> {
    number: u64,
    kind: SessionKind,
    software: Name,
    peer: &'a Peer,
    token: Option<String>,
    is_resumed: bool,
    agent: &'a Arc<Agent>,
    stream: Stream,
    _permit: SemaphorePermit<'a>,
    _stay: Stay,
    _room: Room,
}

/// Opens a stream to the agent and announces the client on it.
///
/// # Errors
/// What the client is to be told.
pub(crate) async fn open<'a>(
    shared: &Shared,
    agent: &'a Arc<Agent>,
    arrival: Arrival<'a>,
) -> Result<Session<'a>, Refused> {
    let Arrival { kind, client, peer, token, is_resumed } = arrival;
    let address = peer.address.ip();
    let stay = shared.gate.session(address).map_err(Refusal::refused)?;
    let Ok(permit) = agent.sessions.try_acquire() else {
        return Err(shared.gate.refused(Refusal::SessionsOfAgent, address).refused());
    };
    let room = agent.link.room();
    let number = shared.next_session();
    let software = client.software.clone();
    let opening = async {
        let mut stream = agent.link.open_stream().await?;
        stream.send.write_frame(&Incoming { session: number, kind, client }.to_frame()).await?;
        Ok::<_, StreamError>(stream)
    };
    match tokio::time::timeout(limits::AGENT_STREAM_TIMEOUT, opening).await {
        Ok(Ok(stream)) => Ok(Session {
            number,
            kind,
            software,
            peer,
            token,
            is_resumed,
            agent,
            stream,
            _permit: permit,
            _stay: stay,
            _room: room,
        }),
        Ok(Err(error)) => Err(agent_lost(&error.to_string())),
        Err(_) => Err(agent_lost("it does not take the session")),
    }
}

impl Session<'_> {
    /// Gives up a session whose client does not even take the answer.
    pub(crate) async fn abandon(self) {
        self.stream.reset(RefusalCode::LIMIT).await;
    }
}

fn agent_lost(why: &str) -> Refused {
    let text = format!("the agent cannot be reached: {why}; it will be back when its network is");
    Refused { code: RefusalCode::AGENT_LOST, text: Line::new(text) }
}

/// Copies until both directions have ended, one has failed, or the relay ends.
pub(crate) async fn run(shared: &Shared, session: Session<'_>, mut client: Stream, id: &Id) {
    let Session {
        number,
        kind,
        software,
        peer,
        token,
        is_resumed,
        agent,
        stream: mut to_agent,
        _permit,
        _stay,
        _room,
    } = session;
    let mut stay = shared.directory.begin(NewSession {
        number,
        id: id.clone(),
        kind,
        software,
        peer: peer.clone(),
        token,
        is_resumed,
    });
    info!(session = number, %id, peer = %peer.address, "session begins");
    let entry = stay.entry().clone();
    let meter = Metered {
        traffic: &entry.traffic,
        counters: SessionCounters::new(&shared.metrics, peer.carrier),
        share: shared.gate.share(agent.bandwidth.as_ref()),
    };
    let result = tokio::select! {
        biased; // The reason of a link's end is truer than what its streams make of it.
        () = shared.ending.cancelled() => Err((End::RelayStopped, StreamError::from(LinkError::ClosedHere))),
        () = agent.time_to_move(), if kind == SessionKind::Resumable => {
            Err((End::RelayStopped, StreamError::from(LinkError::ClosedHere)))
        }
        error = agent.link.closed() => Err((End::AgentLost, error.into())),
        result = copy_bidirectional(&mut client, &mut to_agent, &meter) => {
            result.map_err(|error| (End::Cut, error))
        }
    };
    let reason = result.as_ref().map_or_else(|(_, error)| error.to_string(), |()| "done".to_owned());
    log_end(&stay, &reason);
    meter.counters.ended(result.as_ref().map_or_else(|(end, _)| *end, |()| End::Done), entry.began.elapsed());
    stay.because(reason);
    drop(stay);
    match result {
        Ok(()) => {
            tokio::join!(client.close(), to_agent.close());
        }
        Err((end, error)) => {
            let (code, words) = match (&error, end) {
                (StreamError::TextMessage, _) => (RefusalCode::PROTOCOL_VIOLATION, error.to_string()),
                (_, End::RelayStopped) => (RefusalCode::STOPPING, "the relay has stopped".to_owned()),
                _ => (RefusalCode::AGENT_LOST, format!("the session was cut: {error}")),
            };
            tokio::join!(client.reset_with(code, &words), to_agent.reset(code));
        }
    }
}

/// Counts what passes, and lets it pass when it may.
struct Metered<'a> {
    traffic: &'a Traffic,
    counters: SessionCounters<'a>,
    share: Share<'a>,
}

impl Meter for Metered<'_> {
    async fn pass(&self, direction: Direction, bytes: usize) {
        self.traffic.pass(direction, bytes).await;
        self.counters.passed(direction, bytes);
        let way = match direction {
            Direction::Forward => Way::ToAgent,
            Direction::Backward => Way::ToClient,
        };
        self.share.pass(way, bytes).await;
    }
}

fn log_end(stay: &SessionStay, reason: &str) {
    let session = stay.entry();
    let (to_agent, to_client) = (session.traffic.to_agent_bytes(), session.traffic.to_client_bytes());
    let seconds = session.began.elapsed().as_secs_f64();
    info!(session = session.number, to_agent, to_client, seconds, reason, "session ends");
}

//! An agent's link: registration on its first stream, then that stream as the control stream.

mod requests;

use crate::{
    access::{Credentials, Grant, Refusal, Scope},
    directory::{AgentStay, NewAgent},
    first_frame,
    limits::{self, Stay},
    peer::Peer,
    registry::{Agent, Place, RegisterError, Registration},
    shared::Shared,
};
use converge_proto::{
    Frame, FrameType, Keepalive,
    frame::FrameError,
    keepalive::KeepaliveAction,
    rendezvous::{
        Bye, ExpiryWarning, Goaway, HandshakeStep, Limits, LinkNumber, Message, Ping, Pong, RefusalCode,
        Refused, RegisterHandshake, Registered, Response, Status, VerifiedAgent, handshake::HandshakeError,
        messages::Line,
    },
};
use converge_transport::{Carrier, CloseCode, Link, Stream, StreamError};
use requests::Requests;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tracing::{debug, info};

/// An agent that is in.
pub(crate) struct Admitted {
    agent: Arc<Agent>,
    control: Stream,
    registration: Registration,
    presence: AgentStay,
    _stay: Stay,
    _place: TaskTrackerToken,
}

/// Lets the agent in whose link's first stream began with `register`; where it may not, the link has ended.
pub(crate) async fn admit(
    shared: &Shared,
    link: &Link,
    control: Stream,
    register: Frame,
    peer: &Peer,
) -> Option<Admitted> {
    match register_agent(shared, link, control, register, peer).await {
        Ok(admitted) => {
            let Agent { number, verified, .. } = &*admitted.agent;
            let (id, fingerprint) = (&admitted.registration.id, verified.host_key.fingerprint());
            let certificate = peer.certificate.as_ref().map(tracing::field::display);
            info!(%id, %fingerprint, carrier = %link.carrier(), peer = %peer.address, link = number.0, certificate, "agent registered");
            debug!(software = %verified.info.software, "agent's program");
            return Some(admitted);
        }
        Err(Some((control, refused))) => refuse(shared, link, control, &refused).await,
        Err(None) => {}
    }
    None
}

/// The same; else its control stream and what it is to be told, or nothing where the link has
/// ended.
async fn register_agent(
    shared: &Shared,
    link: &Link,
    mut control: Stream,
    register: Frame,
    peer: &Peer,
) -> Result<Admitted, Option<(Stream, Refused)>> {
    let handshake = tokio::time::timeout(shared.first_word_timeout, handshake(link, &mut control, register));
    let Some(handshake) = shared.draining.run_until_cancelled(handshake).await else {
        return Err(Some((control, stopping())));
    };
    let verified = match handshake {
        Ok(Ok(verified)) => verified,
        Ok(Err(error)) => return Err(Some((control, error.refusal()))),
        Err(_) => {
            shared.gate.refused(limits::Refusal::Silent, peer.address.ip());
            link.clone().finish(CloseCode::SILENT, "the registration was not finished in time").await;
            return Err(None);
        }
    };
    if shared.draining.is_cancelled() {
        return Err(Some((control, stopping())));
    }
    let grant = match check_access(shared, &verified, peer).await {
        Ok(grant) => grant,
        Err(refusal) => return Err(Some((control, refusal.refused()))),
    };
    let stay = match enter(shared, &verified, peer) {
        Ok(stay) => stay,
        Err(refusal) => return Err(Some((control, refusal.refused()))),
    };
    let agent = Arc::new(Agent {
        number: LinkNumber(shared.next_link()),
        link: link.clone(),
        verified,
        grant,
        sessions: Semaphore::new(shared.gate.sessions_per_agent() as usize),
        bandwidth: shared.gate.agents_bandwidth(),
        leaving: CancellationToken::new(),
    });
    match shared.registry.register(agent.clone()).await {
        Ok(registration) => {
            // At once: who has waited for the agent looks it up now.
            let presence = shared.directory.enter(NewAgent {
                number: agent.number,
                id: registration.id.clone(),
                host_key: agent.verified.host_key.clone(),
                info: agent.verified.info.clone(),
                peer: peer.clone(),
                grant: agent.grant.clone(),
            });
            let place = shared.agents.token();
            Ok(Admitted { agent, control, registration, presence, _stay: stay, _place: place })
        }
        Err(RegisterError::Full) => {
            let refusal = shared.gate.refused(limits::Refusal::Agents, peer.address.ip());
            Err(Some((control, refusal.refused())))
        }
        Err(error @ (RegisterError::Held(_) | RegisterError::Unavailable(_))) => {
            let code = match error {
                RegisterError::Unavailable(_) => RefusalCode::INTERNAL,
                _ => RefusalCode::FORBIDDEN,
            };
            Err(Some((control, Refused { code, text: Line::new(error.to_string()) })))
        }
    }
}

/// Whether the agent may register, and with the ID it wants. Nothing is held for it meanwhile.
async fn check_access(shared: &Shared, verified: &VerifiedAgent, peer: &Peer) -> Result<Grant, Refusal> {
    let address = peer.address.ip();
    if shared.registry.reserved_for(verified).is_some() {
        // The token was made for it when the ID was reserved.
        shared.access.check_network(Scope::Agent, address)?;
        return Ok(Grant::default());
    }
    let credentials = Credentials::new(verified.token.clone());
    let grant = shared.access.check(Scope::Agent, &credentials, address).await?;
    if let Some(wanted) = &verified.wanted {
        shared.access.admit(Scope::Agent, &grant, wanted)?;
    }
    if let Some(claims) = &grant.claims {
        debug!(%claims, issuer = %claims.issuer, "agent's job is verified");
    }
    Ok(grant)
}

/// Counts an agent. One that comes on another link, before its last one is gone, is the same agent.
fn enter(shared: &Shared, verified: &VerifiedAgent, peer: &Peer) -> Result<Stay, limits::Refusal> {
    let holder = verified.wanted.as_ref().and_then(|id| shared.registry.find(id)).and_then(Place::here);
    let address = peer.address.ip();
    match holder {
        Some(holder) if holder.verified.host_key == verified.host_key => Ok(shared.gate.agent_moves(address)),
        _ => shared.gate.agent(address),
    }
}

fn stopping() -> Refused {
    Refused { code: RefusalCode::STOPPING, text: Line::new("the relay is stopping") }
}

async fn refuse(shared: &Shared, link: &Link, control: Stream, refused: &Refused) {
    shared.metrics.registration_refused(link.carrier(), refused.code);
    debug!(code = %refused.code, reason = %refused.text, "agent refused");
    first_frame::refuse(control, refused).await;
    link.clone().finish(refused.code.into(), refused.text.as_str()).await;
}

#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the control stream ended during the registration")]
    Ended,
}

impl RegistrationError {
    fn refusal(&self) -> Refused {
        match self {
            Self::Handshake(HandshakeError::Frame(error)) | Self::Stream(StreamError::Frame(error)) => {
                first_frame::refusal_of(error)
            }
            Self::Handshake(HandshakeError::BadProof) => {
                Refused { code: RefusalCode::BAD_PROOF, text: Line::new(self.to_string()) }
            }
            Self::Stream(_) | Self::Ended => {
                Refused { code: RefusalCode::PROTOCOL_VIOLATION, text: Line::new(self.to_string()) }
            }
        }
    }
}

async fn handshake(
    link: &Link,
    control: &mut Stream,
    register: Frame,
) -> Result<VerifiedAgent, RegistrationError> {
    let mut handshake = RegisterHandshake::new(link.channel_binding(), rand::random());
    let mut frame = register;
    loop {
        match handshake.handle_frame(&frame)? {
            HandshakeStep::Verified(agent) => return Ok(*agent),
            HandshakeStep::SendChallenge(challenge) => {
                control.send.write_frame(&challenge.to_frame()).await?;
                frame = control.recv.read_frame().await?.ok_or(RegistrationError::Ended)?;
            }
        }
    }
}

/// How a registered link ended, for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkEnd {
    #[error("the agent said goodbye: {0}")]
    Goodbye(Line),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the agent went silent")]
    Silent,
    #[error("the agent does not read its control stream")]
    NotReading,
    #[error("the control stream ended")]
    ControlEnded,
    #[error("the relay stopped")]
    Stopped,
}

/// The control stream, until the link ends.
pub(crate) async fn run(shared: &Shared, link: &Link, admitted: &mut Admitted) -> LinkEnd {
    let Admitted { agent, control, registration, presence, .. } = admitted;
    let keepalive = match link.carrier() {
        Carrier::Quic => limits::KEEPALIVE_QUIC,
        Carrier::WebSocket => limits::KEEPALIVE_WEBSOCKET,
    };
    shared.metrics.registered(link.carrier(), presence.has_moved(), agent.verified.fell_back);
    let registered = registered(shared, registration, keepalive);
    let told = Box::pin(async { write(control, &registered).await }).await;
    let end = match told {
        Ok(()) => control_loop(shared, agent, control, keepalive, presence).await,
        Err(end) => end,
    };
    presence.because(end.to_string());
    end
}

fn registered(shared: &Shared, registration: &Registration, keepalive: Duration) -> Frame {
    let registered = Registered {
        id: registration.id.clone(),
        reassigned: registration.reassigned,
        keepalive_ms: u32::try_from(keepalive.as_millis()).unwrap_or(u32::MAX),
        limits: Limits { sessions: shared.gate.sessions_per_agent() },
        public_url: shared.public_url.as_ref().map(|url| Line::new(url.to_string())),
    };
    registered.to_frame()
}

/// The link has ended, or is to end now; the agent's ID is released.
pub(crate) async fn end(link: &Link, admitted: Admitted, why: LinkEnd) {
    let Admitted { agent, registration, presence, .. } = admitted;
    drop(presence);
    let id = registration.id.clone();
    let (code, reason) = match &why {
        LinkEnd::Goodbye(_) => (CloseCode::DONE, String::new()),
        LinkEnd::Stopped => (CloseCode::STOPPING, String::new()),
        LinkEnd::Silent | LinkEnd::NotReading => (CloseCode::SILENT, String::new()),
        LinkEnd::Stream(StreamError::Frame(error)) => (CloseCode::PROTOCOL_VIOLATION, error.to_string()),
        LinkEnd::Stream(_) | LinkEnd::ControlEnded => (CloseCode::PROTOCOL_VIOLATION, why.to_string()),
    };
    match &why {
        LinkEnd::Goodbye(_) => registration.give_up(),
        _ => drop(registration),
    }
    if matches!(why, LinkEnd::Stopped) {
        // Its sessions are being cut at this moment.
        link.settle().await;
    }
    link.clone().finish(code, &reason).await;
    info!(%id, link = agent.number.0, reason = %why, "agent gone");
}

/// How far a link is that is to end.
#[derive(Clone, Copy)]
enum Leaving {
    No,
    /// The agent is told then.
    At(Instant),
    Told,
}

async fn control_loop(
    shared: &Shared,
    agent: &Agent,
    control: &mut Stream,
    interval: Duration,
    stay: &mut AgentStay,
) -> LinkEnd {
    // The agent asks; the relay only notices when it no longer does, so its own patience is longer.
    let mut keepalive = Keepalive::new(interval * 3 / 2, Instant::now());
    let mut leaving = Leaving::No;
    let mut requests = Requests::default();
    loop {
        // What is done now and then is boxed, so that what waits is small.
        let step = tokio::select! {
            biased; // An ending relay does not listen any more; a link that is closed has the truest reason.
            () = shared.ending.cancelled() => return LinkEnd::Stopped,
            error = agent.link.closed() => return LinkEnd::Stream(error.into()),
            () = shared.draining.cancelled(), if matches!(leaving, Leaving::No) => {
                match shared.time_to_leave() {
                    None => Box::pin(send_away(shared, agent, control, &mut leaving)).await,
                    Some(time) => {
                        leaving = Leaving::At(time);
                        Ok(())
                    }
                }
            }
            frame = control.recv.read_frame() => {
                keepalive.handle_received(Instant::now());
                Box::pin(handle_frame(control, frame, stay, &mut requests)).await
            }
            (action, answer) = stay.asked(), if requests.is_free() => {
                let request = requests.begin(action, answer).to_frame();
                Box::pin(write(control, &request)).await
            }
            () = requests.given_up() => Ok(()),
            () = tokio::time::sleep_until(wake_up(&keepalive, leaving).into()) => match leaving {
                Leaving::At(time) if time <= Instant::now() => {
                    Box::pin(send_away(shared, agent, control, &mut leaving)).await
                }
                _ => match keepalive.handle_timeout(Instant::now()) {
                    KeepaliveAction::SendPing(token) => {
                        let ping = Ping { token }.to_frame();
                        Box::pin(write(control, &ping)).await
                    }
                    KeepaliveAction::Wait => Ok(()),
                    KeepaliveAction::Lost => Err(LinkEnd::Silent),
                },
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

fn wake_up(keepalive: &Keepalive, leaving: Leaving) -> Instant {
    match leaving {
        Leaving::At(time) => time.min(keepalive.poll_timeout()),
        Leaving::No | Leaving::Told => keepalive.poll_timeout(),
    }
}

async fn send_away(
    shared: &Shared,
    agent: &Agent,
    control: &mut Stream,
    leaving: &mut Leaving,
) -> Result<(), LinkEnd> {
    *leaving = Leaving::Told;
    agent.leaving.cancel();
    let try_first = shared.cluster.as_ref().and_then(|cluster| cluster.any_url(&mut rand::rng()));
    let reason = Line::new("the relay is stopping");
    let goaway = Goaway { reason, retry_after_ms: 0, try_first: try_first.map(Line::new) };
    write(control, &goaway.to_frame()).await
}

async fn handle_frame(
    control: &mut Stream,
    frame: Result<Option<Frame>, StreamError>,
    stay: &AgentStay,
    requests: &mut Requests,
) -> Result<(), LinkEnd> {
    let frame = frame?.ok_or(LinkEnd::ControlEnded)?;
    match frame.frame_type {
        FrameType::PING => {
            let ping = Ping::from_frame(&frame).map_err(StreamError::from)?;
            write(control, &Pong { token: ping.token }.to_frame()).await
        }
        FrameType::PONG => Ok(()),
        FrameType::STATUS => {
            stay.tell_status(&Status::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::EXPIRY_WARNING => {
            stay.tell_warning(&ExpiryWarning::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::RESPONSE => {
            requests.answer(Response::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::BYE => Err(LinkEnd::Goodbye(Bye::from_frame(&frame).map_err(StreamError::from)?.reason)),
        _ => {
            let error: FrameError = first_frame::unexpected(&frame, "Ping, Pong, Status, Response or Bye");
            Err(StreamError::from(error).into())
        }
    }
}

async fn write(control: &mut Stream, frame: &Frame) -> Result<(), LinkEnd> {
    match tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, control.send.write_frame(frame)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LinkEnd::NotReading),
    }
}

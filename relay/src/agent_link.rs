//! An agent's link: registration on its first stream, then that stream as the control stream.

mod control;
mod requests;

pub(crate) use control::{end, run};

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
    Frame,
    rendezvous::{
        HandshakeStep, LinkNumber, Message, RefusalCode, Refused, RegisterHandshake, VerifiedAgent,
        handshake::HandshakeError, messages::Line,
    },
};
use converge_transport::{CloseCode, Link, Stream, StreamError};
use std::sync::Arc;
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

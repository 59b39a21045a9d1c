//! Ways to the agent: a link to the relay and a stream on it that a session can be attached to.

use super::{once, question};
use crate::{error::ClientError, target::Target};
use converge_proto::{
    CarrierChoice, HostKey, RelayUrl,
    rendezvous::{ClientInfo, Connect, Connected, Message, RefusalCode, SessionKind, messages::Name},
    session::{Attach, Attached, Secret, SessionId},
};
use converge_transport::{Link, Role, SessionLink, Stream, StreamError, dial};
use std::time::Duration;

/// An agent that is there answers an `Attach` by then; if not, its own link is dead and it will be back on another.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an agent that does not answer is asked before a session begins.
const FIRST_TRIES: u32 = 4;

/// A stream that leads to the agent, which has agreed to go on with the session there.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) link: Link,
    pub(super) stream: Stream,
    pub(super) attached: Attached,
    pub(super) host_key: HostKey,
}

/// Makes paths for one session.
pub(super) struct Paths<'a> {
    pub(super) target: &'a Target,
    pub(super) session: SessionLink,
    id: SessionId,
    secret: Secret,
    attempt: u32,
    /// The agent's, once it is known; an agent with another key is another agent.
    host_key: Option<HostKey>,
}

/// What [`Paths`] has prepared for one attempt, so that the attempt needs no access to it.
pub(super) struct Attempt<'a> {
    target: &'a Target,
    session: SessionLink,
    attach: Attach,
    host_key: Option<HostKey>,
    wait: Duration,
    says_wait: bool,
}

impl<'a> Paths<'a> {
    pub(super) fn new(target: &'a Target, session: SessionLink) -> Self {
        let (id, secret) = (SessionId(rand::random()), Secret(rand::random()));
        Self { target, session, id, secret, attempt: 0, host_key: None }
    }

    /// The first path, waiting for the agent as long as the target says.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn first(&mut self) -> Result<Path, ClientError> {
        let link = dial_relay(self.target, Role::Client(&self.target.address.id)).await?;
        let mut attempt = self.attempt(self.target.wait);
        attempt.says_wait = true;
        let mut result = attempt.attach(link).await;
        for _ in 1..FIRST_TRIES {
            let Err(error) = &result else { break };
            if !is_agent_away(error) {
                break;
            }
            // Its link may be dead without anybody knowing yet, and it will be back on another.
            tracing::debug!(%error, "the agent does not answer; asking again");
            let attempt = self.attempt(ATTACH_TIMEOUT);
            let link = attempt.dial(CarrierChoice::Auto).await?;
            result = attempt.attach(link).await;
        }
        let path = result?;
        self.target.check_host_key(&path.host_key)?;
        self.host_key = Some(path.host_key.clone());
        Ok(path)
    }

    /// A further attempt. The agent is waited for as long as `wait`.
    pub(super) fn attempt(&mut self, wait: Duration) -> Attempt<'a> {
        let attach = Attach {
            session: self.id,
            secret: self.secret,
            attempt: self.attempt,
            resume: self.host_key.is_some(),
            received: 0,
            limit: 0,
        };
        self.attempt += 1;
        let (session, host_key) = (self.session.clone(), self.host_key.clone());
        Attempt { target: self.target, session, attach, host_key, wait, says_wait: false }
    }

    /// Whether both carriers may be used.
    pub(super) fn may_change_carrier(&self) -> bool {
        self.target.relay.carriers() == CarrierChoice::Auto
    }
}

impl Attempt<'_> {
    /// Dials over the carriers that `carriers` and the target allow.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn dial(&self, carriers: CarrierChoice) -> Result<Link, ClientError> {
        let relay = match carriers {
            CarrierChoice::Auto => self.target.relay.clone(),
            one => self.target.relay.clone().with_carriers(one),
        };
        dial_url(self.target, &relay, Role::Client(&self.target.address.id)).await
    }

    /// Opens a stream on the link and asks the agent to go on there. Once that is sent, the agent leaves any other
    /// stream of the session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn attach(self, link: Link) -> Result<Path, ClientError> {
        let Self { target, session, mut attach, host_key, wait, says_wait } = self;
        let mut stream = link.open_stream().await.map_err(StreamError::from)?;
        let connect = Connect {
            id: target.address.id.clone(),
            kind: SessionKind::Resumable,
            client: ClientInfo {
                software: Name::new(concat!("converge/", env!("CARGO_PKG_VERSION"))),
                address: None,
            },
            wait_ms: question::wait_ms(wait),
            session: Some(attach.session),
            token: target.token.clone(),
            resume: Some(attach.resume),
            fell_back: link.fell_back(),
        };
        stream.send.write_frame(&connect.to_frame()).await?;
        (attach.received, attach.limit) = session.offsets();
        // Sent with the question: it saves a round trip to the agent.
        stream.send.write_frame(&attach.to_frame()).await?;
        let mut waiting = once(|left| {
            if says_wait {
                target.say_waiting(left);
            }
        });
        let connected: Connected = question::answer(&mut stream, &mut waiting).await?;
        if host_key.is_some_and(|known| known != connected.host_key) {
            return Err(ClientError::AnotherAgent);
        }
        let answer = tokio::time::timeout(ATTACH_TIMEOUT, question::answer(&mut stream, &mut |_| ())).await;
        let attached: Attached = answer.map_err(|_| ClientError::AgentSilent)??;
        tracing::debug!(carrier = %link.carrier(), agent = %connected.agent.software, "attached");
        Ok(Path { link, stream, attached, host_key: connected.host_key })
    }
}

/// Whether the relay is there and the agent is not.
fn is_agent_away(error: &ClientError) -> bool {
    matches!(error, ClientError::AgentSilent | ClientError::Refused { code: RefusalCode::AGENT_LOST, .. })
}

/// Dials the target's relay.
///
/// # Errors
/// [`ClientError::Dial`].
pub(super) async fn dial_relay(target: &Target, role: Role<'_>) -> Result<Link, ClientError> {
    if target.options.insecure {
        target.say("--insecure: the relay's certificate is not verified");
    }
    dial_url(target, &target.relay, role).await
}

async fn dial_url(target: &Target, relay: &RelayUrl, role: Role<'_>) -> Result<Link, ClientError> {
    dial(relay, &target.options, role).await.map_err(|error| ClientError::Dial { error })
}

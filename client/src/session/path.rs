//! Ways to the agent: a link to the relay and a stream on it that a session can be attached to.

use super::{
    once, question,
    search::{Search, is_this_relays_own},
};
use crate::{error::ClientError, target::Target};
use converge_proto::{
    CarrierChoice, HostKey, RelayUrl,
    rendezvous::{ClientInfo, Connect, Connected, Message, RefusalCode, SessionKind, messages::Name},
    session::{Attach, Attached, Secret, SessionId},
};
use converge_transport::{Link, Role, SessionLink, Stream, StreamError, dial, dial_any};
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
    says_wait: Option<SaidWait>,
}

/// What the person hears of when the relay waits for the agent.
enum SaidWait {
    /// What the relay says.
    Relays,
    /// This, since further relays will wait, too.
    Whole(Duration),
}

/// Where a link is to lead.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// To any of the target's relays, over the carriers that its URL allows.
    Any,
    /// To this one, over QUIC.
    Quic(RelayUrl),
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
        self.target.say_insecure();
        let mut search = Search::new(&self.target.relays, self.target.wait);
        let mut away = 0;
        let path = loop {
            let attempt = if away > 0 {
                self.attempt(ATTACH_TIMEOUT)
            } else {
                let mut attempt = self.attempt(search.wait());
                let whole = search.whole_wait().map_or(SaidWait::Relays, SaidWait::Whole);
                attempt.says_wait = search.is_first_wait().then_some(whole);
                attempt
            };
            let link = attempt.dial(Way::Any).await?;
            match attempt.attach(link).await {
                Ok(path) => break path,
                Err(error) if is_agent_away(&error) && away + 1 < FIRST_TRIES => {
                    away += 1;
                    // Its link may be dead without anybody knowing yet, and it will be back on another.
                    tracing::debug!(%error, "the agent does not answer; asking again");
                }
                Err(error) => {
                    let Some(pause) = search.goes_on_after(&error) else { return Err(error) };
                    tracing::debug!(%error, "asking another relay");
                    tokio::time::sleep(pause).await;
                }
            }
        };
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
            first: None,
        };
        self.attempt += 1;
        let (session, host_key) = (self.session.clone(), self.host_key.clone());
        Attempt { target: self.target, session, attach, host_key, wait, says_wait: None }
    }

    /// The relay of this link, as the target names it.
    pub(super) fn relay_of(&self, link: &Link) -> &'a RelayUrl {
        let relays = &self.target.relays;
        link.place().and_then(|place| relays.find(&place.relay)).unwrap_or(relays.first())
    }

    /// The relay of this link stops: others are tried first for a while.
    pub(super) fn leave(&self, link: &Link) {
        if let Some(place) = link.place() {
            self.target.options.relays.leave(place);
        }
    }
}

impl Attempt<'_> {
    /// Dials a relay.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn dial(&self, way: Way) -> Result<Link, ClientError> {
        let Target { address, options, relays, .. } = self.target;
        let role = Role::Client(&address.id);
        let dialed = match way {
            Way::Any => dial_any(relays, options, role).await,
            Way::Quic(relay) => dial(&relay.with_carriers(CarrierChoice::Quic), options, role).await,
        };
        dialed.map_err(|error| ClientError::Dial { error })
    }

    /// Opens a stream on the link and asks the agent to go on there. Once that is sent, the agent leaves any other
    /// stream of the session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn attach(self, link: Link) -> Result<Path, ClientError> {
        let (place, relays) = (link.place().cloned(), &self.target.options.relays);
        let attached = self.attach_on(link).await;
        match (&attached, place) {
            (Ok(_), Some(place)) => relays.prefer(&place),
            // The agent may be on another relay by now, or be reached by it.
            (Err(error), Some(place)) if is_this_relays_own(error) => relays.leave(&place),
            _ => {}
        }
        attached
    }

    async fn attach_on(self, link: Link) -> Result<Path, ClientError> {
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
        if !attach.resume {
            attach.first = session.first();
        }
        // Sent with the question: it saves a round trip to the agent.
        stream.send.write_frame(&attach.to_frame()).await?;
        let mut waiting = once(|left| match says_wait {
            Some(SaidWait::Relays) => target.say_waiting(left),
            Some(SaidWait::Whole(whole)) => target.say_waiting(whole),
            None => {}
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

/// Dials one of the target's relays.
///
/// # Errors
/// [`ClientError::Dial`].
pub(super) async fn dial_relay(target: &Target, role: Role<'_>) -> Result<Link, ClientError> {
    dial_any(&target.relays, &target.options, role).await.map_err(|error| ClientError::Dial { error })
}

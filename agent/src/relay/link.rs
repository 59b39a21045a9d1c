//! A registered link to the relay: making one, what is said on its control stream, and whether it still answers.

use super::{
    control_writer::ControlWriter,
    operator::Operator,
    registration::register,
    reporter::{Report, Reporter},
    token::TokenSource,
};
use crate::{agent::AgentError, job::ci::CiJob};
use converge_proto::{
    CarrierChoice, Frame, FrameType, Id, Keepalive, RelayUrl, RelayUrls,
    frame::FrameError,
    rendezvous::{Bye, Goaway, Message, Ping, Pong, Registered, Request, Token, messages::Line},
    session::{Watch, WatchAction},
};
use converge_transport::{
    CloseCode, DialOptions, Link, LinkError, RecvHalf, Role, Stream, StreamError, dial, dial_any, sleep_until,
};
use ssh_key::PrivateKey;
use std::time::{Duration, Instant};

/// A link that has not answered for so long is given up, whether or not there is another.
const LOST_AFTER: Duration = Duration::from_secs(45);

/// Everything that is needed to make a link and register on it.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) relays: RelayUrls,
    pub(crate) options: DialOptions,
    pub(crate) host_key: PrivateKey,
    /// The ID to ask for.
    pub(crate) wanted: Option<Id>,
    /// The job to tell of.
    pub(crate) job: CiJob,
    /// Does what the relay's operator asks.
    pub(crate) operator: Operator,
    /// What to show the relay.
    pub(crate) token: TokenSource,
}

/// A link on which nothing has been said yet, and the token to begin with.
pub(crate) struct DialedLink {
    link: Link,
    token: Option<Token>,
}

/// Where a link is to lead.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To any of the relays, over the carriers that its URL allows.
    Any,
    /// To this one, over QUIC.
    Quic(RelayUrl),
}

impl Dialer {
    /// A link on which nothing has been said yet.
    pub(crate) async fn dial(&self, way: Way) -> Result<DialedLink, AgentError> {
        // Before the link, which does not wait for long.
        let token = self.token.fresh().await.map_err(AgentError::Token)?;
        let dialed = match way {
            Way::Any => dial_any(&self.relays, &self.options, Role::Agent).await,
            Way::Quic(relay) => {
                dial(&relay.with_carriers(CarrierChoice::Quic), &self.options, Role::Agent).await
            }
        };
        match dialed {
            Ok(link) => Ok(DialedLink { link, token }),
            Err(error) => Err(AgentError::Dial { error }),
        }
    }

    /// Registers on the link. The relay closes any other link of this agent by it.
    pub(crate) async fn register(&self, dialed: DialedLink) -> Result<RelayLink, AgentError> {
        let DialedLink { link, token } = dialed;
        match register(&link, &self.host_key, self.wanted.clone(), &self.job, token).await {
            Ok((control, registered)) => {
                if let Some(place) = link.place() {
                    self.options.relays.prefer(place);
                }
                Ok(RelayLink::new(link, control, registered, self.operator.clone()))
            }
            Err(error) => {
                self.leave(&link);
                link.finish(CloseCode::DONE, "").await;
                Err(AgentError::Registration(error))
            }
        }
    }

    /// The relay that this link leads to, as it was given.
    pub(crate) fn relay_of(&self, link: &Link) -> &RelayUrl {
        let given = link.place().and_then(|place| self.relays.find(&place.relay));
        given.unwrap_or(self.relays.first())
    }

    /// The relay of this link stops or wants no agent: others are tried first for a while.
    pub(crate) fn leave(&self, link: &Link) {
        if let Some(place) = link.place() {
            self.options.relays.leave(place);
        }
    }

    /// The relay of this link stops, and may have said where to go.
    pub(crate) fn follow(&self, goaway: &Goaway, link: &Link) {
        self.leave(link);
        let here = self.relay_of(link);
        if let Some(next) = goaway.choose(&self.relays).filter(|next| !next.is_same_relay(here)) {
            self.options.relays.prefer(&next.clone().into());
        }
    }
}

/// A link on which this agent is registered.
pub(crate) struct RelayLink {
    pub(crate) link: Link,
    pub(crate) registered: Registered,
    control: RecvHalf,
    writer: ControlWriter,
    reporter: Reporter,
    operator: Operator,
    watch: Watch,
    /// Bytes that had come in at the last look.
    seen: u64,
}

/// What happened on a link.
#[derive(Debug)]
pub(crate) enum RelayEvent {
    /// A client.
    Stream(Box<Stream>),
    /// The relay will stop.
    Goaway(Goaway),
    /// The relay does not answer.
    Suspected,
    /// It does again.
    Answered,
}

impl RelayLink {
    fn new(link: Link, control: Stream, registered: Registered, operator: Operator) -> Self {
        let asked = Duration::from_millis(registered.keepalive_ms.into());
        let idle = asked.clamp(Keepalive::MIN_INTERVAL, Keepalive::MAX_INTERVAL);
        let (watch, seen) = (Watch::new((idle, idle), Instant::now()), link.received_bytes());
        let Stream { recv: control, send } = control;
        let (writer, reporter) = (ControlWriter::new(send), Reporter::new(&operator.life));
        Self { link, registered, control, writer, reporter, operator, watch, seen }
    }

    /// What happens next. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`]: the link is of no use any more.
    pub(crate) async fn next(&mut self) -> Result<RelayEvent, StreamError> {
        loop {
            let due = self.watch.poll_timeout();
            let lost = self.watch.awaiting_since().map(|since| since + LOST_AFTER);
            let was_suspected = self.watch.is_suspected();
            tokio::select! {
                biased; // The reason of a closed link before what its streams make of it.
                error = self.link.closed() => return Err(error.into()),
                error = self.writer.failed() => return Err(error),
                frame = self.control.read_frame() => {
                    self.watch.handle_received(false, Instant::now());
                    if let Some(goaway) = self.handle_control(frame?)? {
                        return Ok(RelayEvent::Goaway(goaway));
                    }
                    if was_suspected {
                        return Ok(RelayEvent::Answered);
                    }
                }
                stream = self.link.accept_stream() => return Ok(RelayEvent::Stream(Box::new(stream?))),
                report = self.reporter.next() => match report {
                    Report::Status(status) => self.writer.send(&status)?,
                    Report::Warning(warning) => self.writer.send(&warning)?,
                },
                () = sleep_until(lost) => return Err(LinkError::Silent.into()),
                () = sleep_until(Some(due)) => match self.watch.handle_timeout(Instant::now()) {
                    WatchAction::Ask(token) => self.writer.ask(token),
                    WatchAction::Suspect => return Ok(RelayEvent::Suspected),
                    WatchAction::Wait => {}
                },
            }
        }
    }

    /// Whether the relay owes an answer for too long.
    pub(crate) fn is_suspected(&self) -> bool {
        self.watch.is_suspected()
    }

    /// Asks the relay whether it is there if nothing has come in since the last look. To be called while there are sessions:
    /// whoever types next should not have to find out.
    pub(crate) fn look(&mut self) {
        let received = self.link.received_bytes();
        let is_quiet = std::mem::replace(&mut self.seen, received) == received;
        if is_quiet && self.watch.awaiting_since().is_none() {
            self.watch.doubt(Instant::now());
        }
    }

    /// Asks at once whether the relay is there: the network has changed.
    pub(crate) fn doubt(&mut self) {
        if let Err(error) = self.link.follow_network_change() {
            tracing::debug!(%error, "no new socket");
        }
        self.watch.doubt(Instant::now());
    }

    /// Answers what the relay says; returns a `Goaway`.
    fn handle_control(&mut self, frame: Option<Frame>) -> Result<Option<Goaway>, StreamError> {
        let Some(frame) = frame else {
            return Err(LinkError::Broken("the relay ended the control stream".to_owned()).into());
        };
        match frame.frame_type {
            FrameType::PING => {
                let Ping { token } = Ping::from_frame(&frame)?;
                self.writer.send(&Pong { token }).map(|()| None)
            }
            FrameType::PONG => Ok(None),
            FrameType::REQUEST => {
                let response = self.operator.handle(Request::from_frame(&frame)?);
                self.writer.send(&response).map(|()| None)
            }
            FrameType::GOAWAY => Ok(Some(Goaway::from_frame(&frame)?)),
            FrameType::BYE => {
                let reason = Bye::from_frame(&frame)?.reason;
                Err(LinkError::ClosedByPeer { code: CloseCode::DONE, reason }.into())
            }
            frame_type => {
                Err(FrameError::Unexpected { frame_type, expected: "Ping, Pong, Request, Goaway or Bye" }
                    .into())
            }
        }
    }

    /// Ends the link and frees the ID.
    pub(crate) async fn say_goodbye(self) {
        let reason = Line::new("the agent is stopping");
        // A relay that is gone needs no goodbye.
        let _ = self.writer.send(&Bye { reason });
        self.writer.finish().await;
        // The relay closes the link when it has read the goodbye.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.link.closed()).await;
        self.link.finish(CloseCode::DONE, "").await;
    }
}

//! Keeps a session attached: watches the path it runs over, moves it to a better one, and finds another when it is lost.

use super::{
    outage::Outages,
    path::{Attempt, Path, Paths, Way},
    search::WAIT_PER_RELAY,
};
use crate::{error::ClientError, target::Target};
use converge_proto::{
    Backoff, CarrierChoice,
    rendezvous::RefusalCode,
    session::{RESUME_WINDOW, SessionError, SessionEvent, Watch},
};
use converge_transport::{
    Attachment, Carrier, CloseCode, Link, LinkError, NetworkChanges, QuicRetry, SessionLink, Stream,
    StreamError, sleep_until,
};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info};

/// How long the relay waits for the agent to be back, on a link that looks alive after its stream was lost.
const SAME_LINK_WAIT: Duration = Duration::from_secs(2);
/// How long a try has at least, whatever changes.
const SHORTEST_TRY: Duration = Duration::from_secs(3);
/// A path that lasted so long was a good one, and the next trouble is a new one.
const GOOD_PATH: Duration = Duration::from_secs(1);
/// How long one attempt may take on a network that works.
const MOVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The owner of a session's paths.
pub(super) struct Keeper<'a> {
    paths: Paths<'a>,
    session: SessionLink,
    backoff: Backoff,
    upgrade: QuicRetry,
    network: NetworkChanges,
}

/// How a path came to its end.
enum PathEnd {
    /// The session is over, for both ends.
    Over,
    /// The stream broke. The link may still be there.
    Broken(StreamError, Link),
    /// There is a better one.
    Better(Box<Path>),
}

/// A path that is being made beside the one in use.
enum Candidate<'a> {
    None,
    /// May be given up.
    Dialing(BoxFuture<'a, Result<(Attempt<'a>, Link), ClientError>>),
    /// The agent may have changed over already.
    Attaching(BoxFuture<'a, Result<Path, ClientError>>),
}

impl<'a> Keeper<'a> {
    pub(super) fn new(paths: Paths<'a>) -> Self {
        let session = paths.session.clone();
        let network = NetworkChanges::new();
        Self { paths, session, backoff: Backoff::new(), upgrade: QuicRetry::new(), network }
    }

    pub(super) fn target(&self) -> &'a Target {
        self.paths.target
    }

    /// Until the session is over, or has been lost for good.
    ///
    /// # Errors
    /// [`ClientError`]: why it is lost.
    pub(super) async fn run(mut self, first: Path, outages: &Outages) -> Result<(), ClientError> {
        let mut path = first;
        loop {
            path = match self.follow(path, outages).await? {
                PathEnd::Over => return Ok(()),
                PathEnd::Better(path) => *path,
                PathEnd::Broken(error, link) => {
                    info!(%error, carrier = %link.carrier(), "the session has lost its path");
                    outages.down(std::time::Instant::now());
                    self.find_again(&error, link).await?
                }
            };
            info!(carrier = %path.link.carrier(), "the session goes on");
            outages.up(path.link.carrier());
            self.upgrade = QuicRetry::new();
        }
    }

    /// Attaches the session to the path and follows it to its end.
    async fn follow(&mut self, path: Path, outages: &Outages) -> Result<PathEnd, ClientError> {
        let Path { link, mut stream, attached, .. } = path;
        let attachment =
            self.session.attach(&attached).map_err(|error| ClientError::SessionOver { error })?;
        let end = self.watch(&attachment, &link, &mut stream, outages).await?;
        match &end {
            PathEnd::Over => {
                stream.close().await;
                link.finish(CloseCode::DONE, "").await;
            }
            // The agent has left it already, and what it carried is repeated.
            PathEnd::Better(_) => link.close(CloseCode::DONE, ""),
            PathEnd::Broken(..) => {}
        }
        Ok(end)
    }

    /// Carries the session on over the path while looking for a better one.
    async fn watch(
        &mut self,
        attachment: &Attachment,
        link: &Link,
        stream: &mut Stream,
        outages: &Outages,
    ) -> Result<PathEnd, ClientError> {
        let carrier = link.carrier();
        let begun = Instant::now();
        let driving = attachment.drive(stream);
        tokio::pin!(driving);
        let relay = self.paths.relay_of(link);
        let may_upgrade = carrier == Carrier::WebSocket && relay.carriers() == CarrierChoice::Auto;
        let mut candidate = Candidate::None;
        let mut try_again = None;
        loop {
            let is_free = matches!(candidate, Candidate::None);
            tokio::select! {
                biased; // The path in use counts more than the one that is looked for.
                end = &mut driving => {
                    match self.session.error() {
                        // Said, and it must still arrive: the stream is closed in order.
                        Some(SessionError::ResetHere { .. }) if end.is_ok() => return Ok(PathEnd::Over),
                        Some(error) => return Err(ClientError::SessionOver { error }),
                        None => {}
                    }
                    let Err(error) = end else { return Ok(PathEnd::Over) };
                    if begun.elapsed() > GOOD_PATH {
                        self.backoff = Backoff::new();
                    }
                    // A path that is nearly there is better than beginning again.
                    if let Candidate::Attaching(attaching) = candidate
                        && let Ok(path) = attaching.await
                    {
                        return Ok(PathEnd::Better(Box::new(path)));
                    }
                    return Ok(PathEnd::Broken(error, link.clone()));
                }
                event = self.session.next_event() => match event {
                    SessionEvent::Suspected => {
                        let since = std::time::Instant::now();
                        outages.down(since.checked_sub(Watch::SUSPICION).unwrap_or(since));
                        info!(%carrier, "no answer; looking for another path");
                        if is_free {
                            candidate = dialing(&mut self.paths, Way::Any);
                        }
                    }
                    SessionEvent::Answered => {
                        outages.up(carrier);
                        try_again = None;
                        if matches!(candidate, Candidate::Dialing(_)) {
                            candidate = Candidate::None;
                        }
                    }
                    SessionEvent::Notice(notice) => self.paths.target.say(notice.text.as_str()),
                },
                result = candidate.next() => match result {
                    Ok(Some(path)) => return Ok(PathEnd::Better(Box::new(path))),
                    Ok(None) => {}
                    // What somebody else says does not end a session whose own path works.
                    Err(error) if is_final(&error) && self.session.is_suspected() => return Err(error),
                    Err(error) => {
                        debug!(%error, "no other path for now");
                        candidate = Candidate::None;
                        self.upgrade.failed();
                        try_again = Some(Instant::now() + self.backoff.next(rand::random()));
                    }
                },
                () = self.network.changed() => {
                    debug!("the network has changed");
                    if let Err(error) = link.follow_network_change() {
                        debug!(%error, "no new socket");
                    }
                    self.session.doubt();
                    self.upgrade.hurry();
                }
                () = sleep_until(try_again), if is_free => {
                    try_again = None;
                    if self.session.is_suspected() {
                        candidate = dialing(&mut self.paths, Way::Any);
                    }
                }
                () = tokio::time::sleep_until(self.upgrade.due()), if may_upgrade && is_free => {
                    debug!("trying whether QUIC gets through by now");
                    candidate = dialing(&mut self.paths, Way::Quic(relay.clone()));
                }
            }
        }
    }

    /// Tries until there is a path again, for as long as the agent keeps the session.
    async fn find_again(&mut self, lost: &StreamError, link: Link) -> Result<Path, ClientError> {
        let deadline = Instant::now() + RESUME_WINDOW;
        let mut trouble = ClientError::Lost(lost.clone());
        // A relay or an agent that has lost the stream alone is asked on the same link first.
        let is_stopping = matches!(
            lost,
            StreamError::Reset(RefusalCode::STOPPING)
                | StreamError::Link(LinkError::ClosedByPeer { code: CloseCode::STOPPING, .. })
        );
        if is_stopping {
            self.paths.leave(&link);
        }
        if link.carrier() == Carrier::Quic && matches!(lost, StreamError::Reset(_)) && !is_stopping {
            let attempt = self.paths.attempt(SAME_LINK_WAIT);
            let attaching = attempt.attach(link.clone());
            match tokio::time::timeout(SAME_LINK_WAIT * 2, attaching).await {
                Ok(Ok(path)) => return Ok(path),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => debug!(%error, "not on the same link"),
                Err(_) => debug!("not on the same link"),
            }
        }
        link.close(CloseCode::DONE, "");
        drop(link);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::LostForGood { after: RESUME_WINDOW, last: Box::new(trouble) });
            }
            // The agent may come back on any of several relays.
            let several = self.target().relays.are_several();
            let attempt = self.paths.attempt(if several { left.min(WAIT_PER_RELAY) } else { left });
            let trying = async {
                let link = attempt.dial(Way::Any).await?;
                attempt.attach(link).await
            };
            let tried = tokio::select! {
                tried = tokio::time::timeout(left, trying) => tried,
                // What was tried from the old network may hang for long; a network that changes all the time must not
                // keep anything from being tried.
                () = async { tokio::time::sleep(SHORTEST_TRY).await; self.network.changed().await } => continue,
            };
            match tried {
                Ok(Ok(path)) => return Ok(path),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => {
                    debug!(%error, "no path yet");
                    trouble = error;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.backoff.next(rand::random())) => {}
                () = self.network.changed() => debug!("the network has changed"),
            }
        }
    }
}

fn dialing<'a>(paths: &mut Paths<'a>, way: Way) -> Candidate<'a> {
    let several = paths.target.relays.are_several();
    let attempt = paths.attempt(if several { WAIT_PER_RELAY } else { MOVE_TIMEOUT });
    Candidate::Dialing(Box::pin(async move {
        let link = attempt.dial(way).await?;
        Ok((attempt, link))
    }))
}

impl Candidate<'_> {
    /// The next step, or the path. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Path>, ClientError> {
        match self {
            Self::None => std::future::pending().await,
            Self::Dialing(dialing) => {
                let (attempt, link) = dialing.await?;
                let attaching = tokio::time::timeout(MOVE_TIMEOUT, attempt.attach(link));
                *self = Self::Attaching(Box::pin(async move {
                    attaching.await.unwrap_or_else(|_| Err(ClientError::Lost(LinkError::Silent.into())))
                }));
                Ok(None)
            }
            Self::Attaching(attaching) => attaching.await.map(Some),
        }
    }
}

/// Whether trying again cannot help.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::AnotherAgent | ClientError::HostKeyMismatch { .. } | ClientError::SessionOver { .. } => {
            true
        }
        ClientError::Refused { code, .. } => matches!(
            *code,
            RefusalCode::NO_SUCH_SESSION
                | RefusalCode::BAD_SECRET
                | RefusalCode::EXPIRED
                | RefusalCode::PROTOCOL_VIOLATION
                | RefusalCode::UNAUTHORIZED
                | RefusalCode::FORBIDDEN
                | RefusalCode::UNSUPPORTED
        ),
        _ => false,
    }
}

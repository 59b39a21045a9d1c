//! The agent as a whole: dial, register, serve what comes in, and dial again for ever.

use crate::{
    AgentDir,
    config::Config,
    life::{self, EndReason, Life, LifeConfig, LifeTask},
    relay::announce::{self, Announcement},
    relay::diagnosis,
    relay::link::{DialedLink, Dialer, RelayEvent, RelayLink, Way},
    relay::operator::Operator,
    relay::registration::RegistrationError,
    relay::sessions::Sessions,
    relay::token::TokenError,
    ssh::{SshConfigError, SshServer, SshServerConfig},
};
use converge_proto::{
    Backoff, CarrierChoice, HostKey, Id, RelayUrl,
    rendezvous::{Goaway, Registered},
};
use converge_transport::{
    Carrier, CarrierMemory, CloseCode, DialError, DialOptions, Link, LinkError, NetworkChanges, QuicRetry,
    StreamError, probe::Report, sleep_until,
};
use futures_util::future::BoxFuture;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often a link with sessions is looked at: a relay that was killed and started again is found out by then.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A link that lasted so long was a good one, and the next trouble is a new one.
const GOOD_LINK: Duration = Duration::from_secs(1);
/// How long a relay is dialed that says that its first certificate is on its way.
const CERTIFICATE_WAIT: Duration = Duration::from_mins(2);

/// An agent that has not dialed yet.
pub struct Agent {
    dialer: Dialer,
    directory: PathBuf,
    public_key: HostKey,
    sessions: Sessions,
    life: Life,
    life_task: Option<LifeTask>,
    announcements: watch::Sender<Option<Announcement>>,
    diagnoses: watch::Sender<Vec<Report>>,
    network: NetworkChanges,
}

/// Why an agent cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The SSH server cannot be set up.
    #[error("cannot set up the SSH server: {0}")]
    Ssh(#[from] SshConfigError),
    /// The host key is not of a kind that agents have.
    #[error("cannot use the host key: {0}")]
    HostKey(String),
    /// The relay cannot be dialed, and trying again would not help.
    #[error("cannot connect to the relay: {error}; {}", error.advice())]
    Dial {
        /// What happened.
        error: DialError,
    },
    /// What the relay is to be shown cannot be had.
    #[error("{0}")]
    Token(TokenError),
    /// The relay does not want this agent.
    #[error("{0}")]
    Registration(RegistrationError),
}

impl Agent {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`AgentError`] when the host key, the shells or the working directory cannot be used.
    pub fn new(config: Config) -> Result<Self, AgentError> {
        let public_key = HostKey::new(config.host_key.public_key())
            .map_err(|error| AgentError::HostKey(error.to_string()))?;
        let mut ssh = SshServerConfig::new(config.host_key.clone(), config.users, config.working_dir);
        ssh.shells = config.shells;
        ssh.policy = config.policy;
        ssh.agent_dir = Some(config.agent_dir.clone());
        ssh.place = config.place;
        ssh.environment = config.environment;
        let (life, life_task) = life::life(LifeConfig {
            limits: config.limits,
            hold_file: config.agent_dir.join(AgentDir::HOLD_FILE),
            activity: ssh.activity.clone(),
            events: config.events.clone(),
        });
        ssh.life = life.clone();
        ssh.events = config.events;
        ssh.login_text = Some(config.login_text);
        let options = DialOptions {
            insecure: config.insecure,
            client_certificate: config.client_certificate,
            proxy: config.proxy,
            memory: Some(Arc::new(CarrierMemory::in_process())),
            relays: Arc::default(),
        };
        let dialer = Dialer {
            relays: config.relays,
            options,
            host_key: config.host_key,
            wanted: config.id,
            job: config.job,
            operator: Operator { life: life.clone(), is_heard: config.hears_operator },
            token: config.token,
        };
        Ok(Self {
            dialer,
            directory: config.agent_dir,
            public_key,
            sessions: Sessions::new(SshServer::new(ssh)?),
            life,
            life_task: Some(life_task),
            announcements: watch::Sender::new(None),
            diagnoses: watch::Sender::new(Vec::new()),
            network: NetworkChanges::new(),
        })
    }

    /// Who is there, and what ends the agent; also to end it.
    pub fn life(&self) -> Life {
        self.life.clone()
    }

    /// How the agent can be reached; changes whenever that does.
    pub fn announcements(&self) -> watch::Receiver<Option<Announcement>> {
        self.announcements.subscribe()
    }

    /// What is in the way, once, when no relay is reached soon after the start: for each relay, as they were named.
    pub fn diagnoses(&self) -> watch::Receiver<Vec<Report>> {
        self.diagnoses.subscribe()
    }

    /// Serves until something ends the agent's [`Life`], and says what. A lost relay is dialed again for as long as it
    /// takes, and the ID taken back. When this returns, all sessions have ended.
    ///
    /// # Errors
    /// [`AgentError`] when the very first connection fails in a way that trying again would not mend.
    pub async fn run(mut self) -> Result<EndReason, AgentError> {
        let stop = CancellationToken::new();
        let living = self.life_task.take().map(LifeTask::run);
        let living = async {
            let reason = match living {
                Some(living) => living.await,
                None => std::future::pending().await,
            };
            stop.cancel();
            reason
        };
        let (reason, ()) = tokio::try_join!(async { Ok(living.await) }, self.serve_relay(stop.clone()))?;
        Ok(reason)
    }

    /// Serves what comes through the relay until `stop`.
    async fn serve_relay(&mut self, stop: CancellationToken) -> Result<(), AgentError> {
        info!(relay = %self.dialer.relays, "dialing the relay");
        let _diagnosing = diagnosis::watch_start(
            self.dialer.relays.clone(),
            self.dialer.options.clone(),
            self.announcements(),
            self.diagnoses.clone(),
        );
        let mut backoff = Backoff::new();
        while let Some(mut link) = self.connect(&mut backoff, &stop).await? {
            let begun = Instant::now();
            let (error, retry_after) = loop {
                match self.serve(link, &stop).await {
                    LinkEnd::Stopped => return Ok(()),
                    LinkEnd::Moved(next) => link = *next,
                    LinkEnd::Lost { error, retry_after } => break (error, retry_after),
                }
            };
            warn!(reason = %error, "the link to the relay is lost; dialing again");
            // A relay that takes links only to drop them must not be dialed as fast as it does so.
            if begun.elapsed() > GOOD_LINK {
                backoff = Backoff::new();
            }
            if wait(retry_after.max(backoff.next(rand::random())), &stop).await {
                break;
            }
        }
        self.sessions.ended().await;
        Ok(())
    }

    /// A registered link, however long it takes; `None` when told to stop.
    async fn connect(
        &self,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<Option<RelayLink>, AgentError> {
        let mut last_trouble = String::new();
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let connecting = async {
                let link = self.dialer.dial(Way::Any).await?;
                self.dialer.register(link).await
            };
            let trouble = match stop.run_until_cancelled(connecting).await {
                None => return Ok(None),
                Some(Ok(link)) => return Ok(Some(link)),
                Some(Err(error)) if self.is_final(&error, begun.elapsed(), tries) => return Err(error),
                Some(Err(error)) => error.to_string(),
            };
            // Once per kind of trouble: a relay that is away for an hour is one line, not a thousand.
            if trouble == last_trouble {
                debug!(%trouble, "still no link");
            } else {
                warn!(%trouble, "no link to the relay; trying again until there is one");
                last_trouble = trouble;
            }
            if wait(backoff.next(rand::random()), stop).await {
                return Ok(None);
            }
        }
    }

    /// Before the first success, what will not mend itself is told at once; after it, the relay is known to be right
    /// and is dialed for ever.
    fn is_final(&self, error: &AgentError, dialing_for: Duration, tries: usize) -> bool {
        let was_registered = self.announcements.borrow().is_some();
        !was_registered
            && match error {
                AgentError::Dial { error } if error.awaits_certificate() => dialing_for >= CERTIFICATE_WAIT,
                AgentError::Dial { error } => !error.may_pass(),
                // What one relay does not want another one may.
                AgentError::Registration(error) => !error.may_pass() && tries >= self.dialer.relays.count(),
                AgentError::Ssh(_) | AgentError::HostKey(_) | AgentError::Token(_) => true,
            }
    }

    /// A registered link, until it ends or there is a better one.
    async fn serve(&mut self, mut current: RelayLink, stop: &CancellationToken) -> LinkEnd {
        let carrier = current.link.carrier();
        let registered = current.registered.clone();
        let relay = self.registered_on(&current.link, &registered);
        let may_upgrade = carrier == Carrier::WebSocket && relay.carriers() == CarrierChoice::Auto;
        let mut upgrade = QuicRetry::new();
        let mut backoff = Backoff::new();
        let mut next = NextLink::No;
        let mut goaway: Option<Goaway> = None;
        let mut try_again = None;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let error = loop {
            let is_free = matches!(next, NextLink::No);
            tokio::select! {
                biased; // Stopping first; the link in use counts more than the one that is looked for.
                () = stop.cancelled() => {
                    // Users still hear why.
                    self.sessions.ended().await;
                    current.say_goodbye().await;
                    return LinkEnd::Stopped;
                }
                event = current.next() => match event {
                    Ok(RelayEvent::Stream(stream)) => {
                        let environment = self.environment(&registered.id);
                        self.sessions.accept(*stream, &current.link, environment, stop);
                    }
                    Ok(RelayEvent::Goaway(said)) => {
                        info!(reason = %said.reason, "the relay is going away");
                        self.dialer.follow(&said, &current.link);
                        goaway = Some(said);
                        try_again = Some(Instant::now());
                    }
                    Ok(RelayEvent::Suspected) => {
                        info!(%carrier, "the relay does not answer; looking for another way to it");
                        try_again = Some(Instant::now());
                    }
                    Ok(RelayEvent::Answered) => {
                        try_again = try_again.filter(|_| goaway.is_some());
                        if matches!(next, NextLink::Dialing(_)) {
                            next = NextLink::No;
                        }
                    }
                    // The relay closes this link as soon as the next one is registered.
                    Err(error) => match next {
                        NextLink::Registering(registering) => match registering.await {
                            Ok(link) => return LinkEnd::Moved(Box::new(link)),
                            Err(_) => break error,
                        },
                        NextLink::No | NextLink::Dialing(_) => break error,
                    },
                },
                result = next.step() => match result {
                    Ok(Some(link)) => {
                        info!(from = %carrier, to = %link.link.carrier(), "the agent moves to another link");
                        current.link.close(CloseCode::DONE, "");
                        return LinkEnd::Moved(Box::new(link));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        debug!(%error, "no other link for now");
                        next = NextLink::No;
                        upgrade.failed();
                        try_again = Some(Instant::now() + backoff.next(rand::random()));
                    }
                },
                () = sleep_until(try_again), if is_free => {
                    try_again = None;
                    if goaway.is_some() || current.is_suspected() {
                        next = NextLink::dial(&self.dialer, Way::Any);
                    }
                }
                () = tokio::time::sleep_until(upgrade.due()), if may_upgrade && is_free => {
                    debug!("trying whether QUIC gets through by now");
                    next = NextLink::dial(&self.dialer, Way::Quic(relay.clone()));
                }
                () = self.network.changed() => {
                    debug!("the network has changed");
                    current.doubt();
                    upgrade.hurry();
                }
                _ = looks.tick(), if self.sessions.are_there() => {
                    current.look();
                }
            }
        };
        current.link.close(CloseCode::PROTOCOL_VIOLATION, &error.to_string());
        if let StreamError::Link(LinkError::ClosedByPeer { code: CloseCode::STOPPING, .. }) = &error {
            self.dialer.leave(&current.link);
        }
        let retry_after = match &error {
            // Somebody has this agent's key and ID; two of us must not chase each other off without a pause.
            StreamError::Link(LinkError::ClosedByPeer { code: CloseCode::REPLACED, .. }) => Backoff::LONGEST,
            // That is about this relay, and the others are there.
            _ if self.dialer.relays.are_several() => Duration::ZERO,
            _ => goaway.map(|goaway| goaway.retry_after().min(Backoff::LONGEST)).unwrap_or_default(),
        };
        LinkEnd::Lost { error, retry_after }
    }

    /// What follows from a registration on this link: the ID is the one to take back from now on, and people are told. Returns
    /// the relay.
    fn registered_on(&mut self, link: &Link, registered: &Registered) -> RelayUrl {
        let carrier = link.carrier();
        let relay = self.dialer.relay_of(link).clone();
        if self.dialer.relays.are_several() {
            info!(id = %registered.id, %carrier, relay = %relay.authority(), "registered");
        } else {
            info!(id = %registered.id, %carrier, "registered");
        }
        if let (Some(wanted), Some(reason)) = (&self.dialer.wanted, registered.reassigned) {
            warn!(%wanted, id = %registered.id, %reason, "the relay gave another ID than the wanted one");
        }
        // From now on this ID is the one to take back.
        self.dialer.wanted = Some(registered.id.clone());
        self.announce(registered, &relay);
        relay
    }

    fn announce(&self, registered: &Registered, dialed: &RelayUrl) {
        let public = registered.public_url.as_ref().and_then(|url| url.as_str().parse().ok());
        let relays = announce::relays_for_people(public.as_ref(), dialed, &self.dialer.relays);
        let relay = announce::relay_for_people(public, dialed);
        let announcement = Announcement::new(relay, registered.id.clone(), self.public_key.clone());
        let announcement = announcement.with_relays(relays);
        self.announcements.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&announcement);
            *current = Some(announcement);
            changed
        });
    }

    /// Variables for every program of a session.
    fn environment(&self, id: &Id) -> Vec<(String, String)> {
        vec![
            ("CONVERGE_ID".to_owned(), id.to_string()),
            ("agentdir".to_owned(), self.directory.to_string_lossy().into_owned()),
        ]
    }
}

/// How a registered link ended.
enum LinkEnd {
    /// Told to stop; everybody was told.
    Stopped,
    /// There is a better one, on which this agent is registered.
    Moved(Box<RelayLink>),
    /// It is gone.
    Lost {
        error: StreamError,
        /// Wait this long before dialing again.
        retry_after: Duration,
    },
}

/// A link that is being made beside the one in use.
enum NextLink {
    No,
    /// May be given up.
    Dialing(BoxFuture<'static, Result<(Dialer, DialedLink), AgentError>>),
    /// The relay may have changed over already.
    Registering(BoxFuture<'static, Result<RelayLink, AgentError>>),
}

impl NextLink {
    fn dial(dialer: &Dialer, way: Way) -> Self {
        let dialer = dialer.clone();
        Self::Dialing(Box::pin(async move {
            let link = dialer.dial(way).await?;
            Ok((dialer, link))
        }))
    }

    /// The next step, or the link. Cancel-safe.
    async fn step(&mut self) -> Result<Option<RelayLink>, AgentError> {
        match self {
            Self::No => std::future::pending().await,
            Self::Dialing(dialing) => {
                let (dialer, link) = dialing.await?;
                *self = Self::Registering(Box::pin(async move { dialer.register(link).await }));
                Ok(None)
            }
            Self::Registering(registering) => registering.await.map(Some),
        }
    }
}

/// Waits; `true` when told to stop meanwhile.
async fn wait(time: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(time)).await.is_none()
}

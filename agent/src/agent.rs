//! The agent as a whole: dial, register, serve what comes in, and dial again for ever.

use crate::{
    announce::Announcement,
    config::Config,
    registration::{RegistrationError, register},
    sessions::Sessions,
    ssh::{SshConfigError, SshServer, SshServerConfig},
};
use converge_proto::{
    Backoff, CarrierChoice, FrameType, HostKey, Id, Keepalive, RelayUrl,
    frame::FrameError,
    keepalive::KeepaliveAction,
    rendezvous::{Bye, Goaway, Message, Ping, Pong, Registered, messages::Line},
};
use converge_transport::{
    CarrierMemory, CloseCode, DialError, DialOptions, Link, LinkError, Role, Stream, StreamError, dial,
};
use ssh_key::PrivateKey;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A frame on the control stream must have been sent by then; a relay that does not read is gone.
const CONTROL_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// An agent that has not dialed yet.
pub struct Agent {
    relay: RelayUrl,
    options: DialOptions,
    wanted: Option<Id>,
    directory: PathBuf,
    host_key: PrivateKey,
    public_key: HostKey,
    sessions: Sessions,
    announcements: watch::Sender<Option<Announcement>>,
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
        let mut ssh =
            SshServerConfig::new(config.host_key.clone(), config.authorized_keys, config.working_dir);
        ssh.shells = config.shells;
        Ok(Self {
            relay: config.relay,
            options: DialOptions {
                insecure: config.insecure,
                proxy: config.proxy,
                memory: Some(Arc::new(CarrierMemory::in_process())),
            },
            wanted: config.id,
            directory: config.agent_dir,
            host_key: config.host_key,
            public_key,
            sessions: Sessions::new(SshServer::new(ssh)?),
            announcements: watch::Sender::new(None),
        })
    }

    /// How the agent can be reached; changes whenever that does.
    pub fn announcements(&self) -> watch::Receiver<Option<Announcement>> {
        self.announcements.subscribe()
    }

    /// Serves until `stop`. A lost relay is dialed again for as long as it takes, and the ID taken back.
    ///
    /// # Errors
    /// [`AgentError`] when the very first connection fails in a way that trying again would not mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AgentError> {
        let mut backoff = Backoff::new();
        let mut last_trouble = String::new();
        info!(relay = %self.relay, "dialing the relay");
        while !stop.is_cancelled() {
            let trouble = match self.connect(&stop).await {
                None => break,
                Some(Ok((link, control, registered))) => {
                    last_trouble.clear();
                    let begun = Instant::now();
                    let end = self.serve(link, control, registered, &stop).await;
                    if stop.is_cancelled() {
                        break;
                    }
                    warn!(reason = %end.error, "the link to the relay is lost; dialing again");
                    // A relay that takes links only to drop them must not be dialed as fast as it does so.
                    if begun.elapsed() > Backoff::LONGEST {
                        backoff = Backoff::new();
                    }
                    if wait(end.retry_after.max(backoff.next(rand::random())), &stop).await {
                        break;
                    }
                    continue;
                }
                Some(Err(error)) if self.is_final(&error) => return Err(error),
                Some(Err(error)) => error.to_string(),
            };
            // Once per kind of trouble: a relay that is away for an hour is one line, not a thousand.
            if trouble == last_trouble {
                debug!(%trouble, "still no link");
            } else {
                warn!(%trouble, "no link to the relay; trying again until there is one");
                last_trouble = trouble;
            }
            if wait(backoff.next(rand::random()), &stop).await {
                break;
            }
        }
        self.sessions.ended().await;
        Ok(())
    }

    /// Before the first success, what will not mend itself is told at once; after it, the relay is known to be right
    /// and is dialed for ever.
    fn is_final(&self, error: &AgentError) -> bool {
        let was_registered = self.announcements.borrow().is_some();
        !was_registered
            && match error {
                AgentError::Dial { error } => matches!(
                    error,
                    DialError::NotTrusted { .. } | DialError::Version { .. } | DialError::Setup(_)
                ),
                AgentError::Registration(error) => !error.may_pass(),
                AgentError::Ssh(_) | AgentError::HostKey(_) => true,
            }
    }

    /// One link, dialed and registered; `None` when told to stop.
    async fn connect(
        &self,
        stop: &CancellationToken,
    ) -> Option<Result<(Link, Stream, Registered), AgentError>> {
        let connecting = async {
            let link = dial(&self.relay, &self.options, Role::Agent)
                .await
                .map_err(|error| AgentError::Dial { error })?;
            match register(&link, &self.host_key, self.wanted.clone()).await {
                Ok((control, registered)) => Ok((link, control, registered)),
                Err(error) => {
                    link.finish(CloseCode::DONE, "").await;
                    Err(AgentError::Registration(error))
                }
            }
        };
        stop.run_until_cancelled(connecting).await
    }

    /// A registered link, until it ends.
    async fn serve(
        &mut self,
        link: Link,
        mut control: Stream,
        registered: Registered,
        stop: &CancellationToken,
    ) -> LinkEnd {
        let carrier = link.carrier();
        info!(id = %registered.id, %carrier, "registered");
        if let (Some(wanted), Some(reason)) = (&self.wanted, registered.reassigned) {
            warn!(%wanted, id = %registered.id, %reason, "the relay gave another ID than the wanted one");
        }
        // From now on this ID is the one to take back.
        self.wanted = Some(registered.id.clone());
        self.announce(&registered);
        let mut keepalive =
            Keepalive::new(Duration::from_millis(registered.keepalive_ms.into()), Instant::now());
        let mut retry_after = Duration::ZERO;
        let error = loop {
            let outcome = tokio::select! {
                biased; // Stopping first; the reason of a closed link before what its streams make of it.
                () = stop.cancelled() => {
                    self.say_goodbye(&link, &mut control).await;
                    break LinkError::ClosedHere.into();
                }
                error = link.closed() => Err(error.into()),
                frame = control.recv.read_frame() => {
                    keepalive.handle_received(Instant::now());
                    handle_control(&mut control, frame).await.map(|goaway| {
                        if let Some(goaway) = goaway {
                            info!(reason = %goaway.reason, "the relay is going away; this agent will come back to it");
                            retry_after = goaway.retry_after().min(Backoff::LONGEST);
                        }
                    })
                }
                stream = link.accept_stream() => match stream {
                    Ok(stream) => {
                        self.sessions.accept(stream, carrier, self.environment(&registered.id), stop);
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                },
                () = tokio::time::sleep_until(keepalive.poll_timeout().into()) => {
                    match keepalive.handle_timeout(Instant::now()) {
                        KeepaliveAction::SendPing(token) => write(&mut control, &Ping { token }).await,
                        KeepaliveAction::Wait => Ok(()),
                        KeepaliveAction::Lost => Err(LinkError::Silent.into()),
                    }
                }
            };
            if let Err(error) = outcome {
                break error;
            }
        };
        if !stop.is_cancelled() {
            link.close(CloseCode::PROTOCOL_VIOLATION, &error.to_string());
        }
        if matches!(&error, StreamError::Link(LinkError::ClosedByPeer { code: CloseCode::REPLACED, .. })) {
            // Somebody has this agent's key and ID; two of us must not chase each other off without a pause.
            retry_after = Backoff::LONGEST;
        }
        LinkEnd { error, retry_after }
    }

    fn announce(&self, registered: &Registered) {
        let public = registered.public_url.as_ref().and_then(|url| url.as_str().parse::<RelayUrl>().ok());
        let relay = match public {
            // The pin this agent was given is worth more than one the relay tells.
            Some(public) if public.has_tls() => public.with_pin(self.relay.pin()),
            Some(public) => public,
            None => self.relay.clone(),
        };
        // Which carriers get through from here says nothing about where people are.
        let relay = relay.with_carriers(CarrierChoice::Auto);
        let announcement = Announcement::new(relay, registered.id.clone(), self.public_key.clone());
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

    /// Lets sessions end, then the link, so that users still hear why.
    async fn say_goodbye(&self, link: &Link, control: &mut Stream) {
        self.sessions.ended().await;
        let reason = Line::new("the agent is stopping");
        // A relay that is gone needs no goodbye.
        let _ = write(control, &Bye { reason }).await;
        let _ = control.send.finish().await;
        // The relay closes the link when it has read the goodbye.
        let _ = tokio::time::timeout(Duration::from_secs(1), link.closed()).await;
        link.clone().finish(CloseCode::DONE, "").await;
    }
}

/// How a registered link ended.
struct LinkEnd {
    error: StreamError,
    /// Wait this long before dialing again.
    retry_after: Duration,
}

/// Waits; `true` when told to stop meanwhile.
async fn wait(time: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(time)).await.is_none()
}

/// Answers what the relay says on the control stream; returns a `Goaway`.
async fn handle_control(
    control: &mut Stream,
    frame: Result<Option<converge_proto::Frame>, StreamError>,
) -> Result<Option<Goaway>, StreamError> {
    let Some(frame) = frame? else {
        return Err(LinkError::Broken("the relay ended the control stream".to_owned()).into());
    };
    match frame.frame_type {
        FrameType::PING => {
            let Ping { token } = Ping::from_frame(&frame)?;
            write(control, &Pong { token }).await.map(|()| None)
        }
        FrameType::PONG => Ok(None),
        FrameType::GOAWAY => Ok(Some(Goaway::from_frame(&frame)?)),
        FrameType::BYE => {
            let reason = Bye::from_frame(&frame)?.reason;
            Err(LinkError::ClosedByPeer { code: CloseCode::DONE, reason }.into())
        }
        frame_type => {
            Err(FrameError::Unexpected { frame_type, expected: "Ping, Pong, Goaway or Bye" }.into())
        }
    }
}

async fn write(control: &mut Stream, message: &impl Message) -> Result<(), StreamError> {
    match tokio::time::timeout(CONTROL_WRITE_TIMEOUT, control.send.write_frame(&message.to_frame())).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::Silent.into()),
    }
}

//! Forwarding: what a client opens towards the job's side (`-L`, `-D`, `-W`, `-J`), and what is listened on for it here
//! (`-R`, `-A`).
//!
//! - Every forwarded connection is a channel and counts against [`MAX_CHANNELS`]. `pump` copies it; the rules of `flow`
//!   hold for it as for every other channel.
//! - Nothing here keeps the connection's one task waiting: names are looked up, and connections made, in tasks of their
//!   own, and the client gets its answer when they are done.
//! - A bind address is what the client says, as with `GatewayPorts clientspecified` of OpenSSH's server; without one
//!   OpenSSH's client says `localhost`, which is the loopback interface alone.
//! - When the connection ends, its listeners, sockets and forwarded connections end with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::server::{ChannelOpenHandle, Handle};
use russh::{ChannelId, ChannelOpenFailure};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info};

use super::channels::{Channels, MAX_CHANNELS};
use super::connection::ConnectionLife;
use super::policy::Forward;
use super::{SessionContext, Shared};
use crate::events::Event;
use crate::users::authorized_keys::KeyOptions;

mod agent;
mod connect;
mod listener;
mod local;
mod pump;
mod remote;

use connect::words;
use listener::Listener;
pub(super) use local::Opening;
use local::Target;
use remote::{Arrivals, Origin};

/// In how many places one connection may listen at the same time.
pub const MAX_LISTENING: usize = 64;

/// How many connections are made at the same time for one client; more wait for their turn.
const MAX_CONNECTING: usize = 64;

/// Reason codes of [RFC 4254 section 5.1](https://www.rfc-editor.org/rfc/rfc4254#section-5.1).
const ADMINISTRATIVELY_PROHIBITED: u32 = 1;
const CONNECT_FAILED: u32 = 2;
const RESOURCE_SHORTAGE: u32 = 4;

/// The forwards of one connection.
pub(super) struct Forwards {
    means: Means,
    connecting: Arc<Semaphore>,
    /// At most [`MAX_LISTENING`].
    listening: HashMap<Place, Listening>,
    /// Where programs find the client's authentication agent.
    agent: Option<PathBuf>,
}

/// What the tasks of all forwards need.
#[derive(Clone)]
struct Means {
    shared: Arc<Shared>,
    context: Arc<SessionContext>,
    life: ConnectionLife,
    slots: Arc<Semaphore>,
    arrivals: Arc<Arrivals>,
}

/// Where a client wants us to listen, as it names it later when it wants us to stop.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    Port { host: String, port: u32 },
    Socket(String),
}

struct Listening {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a forward is refused.
struct Refusal {
    code: u32,
    text: String,
}

impl Forwards {
    pub(super) fn new(
        shared: Arc<Shared>,
        context: Arc<SessionContext>,
        life: ConnectionLife,
        channels: &Channels,
    ) -> Self {
        let means = Means { shared, context, life, slots: channels.slots(), arrivals: Arc::default() };
        Self {
            means,
            connecting: Arc::new(Semaphore::new(MAX_CONNECTING)),
            listening: HashMap::new(),
            agent: None,
        }
    }

    /// The socket of the client's authentication agent, if it was asked for.
    pub(super) fn agent_socket(&self) -> Option<&Path> {
        self.agent.as_deref()
    }

    /// Connects where the client wants to, in a task that answers the client and serves the connection.
    pub(super) async fn connect(
        &self,
        forward: Forward<'_>,
        opening: Opening,
        key: Option<&KeyOptions>,
        channels: &mut Channels,
    ) {
        let refusal = match self.means.check(forward, key) {
            Err(refusal) => refusal,
            Ok(()) => match channels.reserve() {
                None => Refusal {
                    code: RESOURCE_SHORTAGE,
                    text: format!("this connection has {MAX_CHANNELS} channels open, close some first"),
                },
                Some(slot) => {
                    let target = Target::new(forward, &self.means.shared.working_dir);
                    let task = channels.add_forward(opening.channel.id());
                    let serving = local::serve(
                        forward.kind(),
                        target,
                        opening,
                        task,
                        slot,
                        Arc::clone(&self.connecting),
                        self.means.clone(),
                    );
                    self.means.life.tasks.spawn(serving.in_current_span());
                    return;
                }
            },
        };
        self.means.report(forward.kind(), forward.to_string(), Some(&refusal));
        refusal.send(opening.reply).await;
    }

    /// Listens on a port; the port that was chosen, when the client left that to us. The error is for the user.
    pub(super) fn listen(
        &mut self,
        host: &str,
        port: u32,
        key: Option<&KeyOptions>,
        connection: &Handle,
    ) -> Result<u32, String> {
        let forward = Forward::Listen { host, port };
        let bound = self.may_listen(forward, key).and_then(|()| {
            let number = u16::try_from(port).map_err(|_| Refusal::cannot_listen(forward, "no such port"))?;
            listener::tcp(host, number).map_err(|error| Refusal::cannot_listen(forward, &words(&error)))
        });
        let (listeners, port) = self.means.reported(forward, bound)?;
        let port = u32::from(port);
        let place = Place::Port { host: host.to_owned(), port };
        self.serve(place, listeners, &Origin::Port { host: host.to_owned(), port }, connection);
        Ok(port)
    }

    /// Listens on a Unix socket. The error is for the user.
    pub(super) fn listen_on_socket(
        &mut self,
        path: &str,
        key: Option<&KeyOptions>,
        connection: &Handle,
    ) -> Result<(), String> {
        let forward = Forward::ListenSocket(path);
        let bound = self.may_listen(forward, key).and_then(|()| {
            listener::unix(&self.means.shared.working_dir.join(path))
                .map_err(|error| Refusal::cannot_listen(forward, &words(&error)))
        });
        let listener = self.means.reported(forward, bound)?;
        let origin = Origin::Socket(path.to_owned());
        self.serve(Place::Socket(path.to_owned()), vec![listener], &origin, connection);
        Ok(())
    }

    /// Stops listening on a port; says whether we did. What came through it lives on.
    pub(super) async fn stop_listening(&mut self, host: &str, port: u32) -> bool {
        self.stop(&Place::Port { host: host.to_owned(), port }).await
    }

    /// Stops listening on a Unix socket; says whether we did. What came through it lives on.
    pub(super) async fn stop_listening_on_socket(&mut self, path: &str) -> bool {
        self.stop(&Place::Socket(path.to_owned())).await
    }

    async fn stop(&mut self, place: &Place) -> bool {
        let Some(listening) = self.listening.remove(place) else { return false };
        listening.stop.cancel();
        for task in listening.tasks {
            // Its listener is closed in any case; the client may ask for the same port next.
            let _ = task.await;
        }
        debug!(?place, "stopped listening");
        true
    }

    /// Makes the client's authentication agent available to programs. The error is for the user.
    pub(super) fn forward_agent(
        &mut self,
        key: Option<&KeyOptions>,
        connection: Handle,
    ) -> Result<(), String> {
        if self.agent.is_some() {
            return Ok(());
        }
        let forward = Forward::Agent;
        let made = self.means.check(forward, key).and_then(|()| {
            agent::Socket::new(self.means.shared.agent_dir.as_deref()).map_err(|error| Refusal {
                code: CONNECT_FAILED,
                text: format!("cannot make a socket for {forward}: {}", words(&error)),
            })
        });
        let socket = self.means.reported(forward, made)?;
        self.agent = Some(socket.path());
        let serving = socket.serve(self.means.clone(), connection);
        self.means.life.tasks.spawn(serving.in_current_span());
        Ok(())
    }

    /// The client has accepted a channel that we opened. Called before the first bytes of the channel arrive.
    pub(super) fn confirmed(&self, id: ChannelId, channels: &mut Channels) {
        self.means.arrivals.confirm(id, channels);
    }

    fn may_listen(&self, forward: Forward<'_>, key: Option<&KeyOptions>) -> Result<(), Refusal> {
        self.means.check(forward, key)?;
        if self.listening.len() >= MAX_LISTENING {
            let text = format!("this connection listens in {MAX_LISTENING} places, cancel some first");
            return Err(Refusal { code: RESOURCE_SHORTAGE, text });
        }
        Ok(())
    }

    fn serve(&mut self, place: Place, listeners: Vec<Listener>, origin: &Origin, connection: &Handle) {
        let stop = self.means.life.ended.child_token();
        let tasks = listeners.into_iter().map(|listener| {
            let serving =
                remote::serve(listener, origin.clone(), self.means.clone(), connection.clone(), stop.clone());
            self.means.life.tasks.spawn(serving.in_current_span())
        });
        let listening = Listening { tasks: tasks.collect(), stop };
        // The same socket again, after somebody has removed its file: nobody can reach the old one any more.
        if let Some(old) = self.listening.insert(place, listening) {
            old.stop.cancel();
        }
    }
}

impl Means {
    fn check(&self, forward: Forward<'_>, key: Option<&KeyOptions>) -> Result<(), Refusal> {
        let refused = |text| Refusal { code: ADMINISTRATIVELY_PROHIBITED, text };
        let key = key.ok_or_else(|| refused("nobody has logged in".to_owned()))?;
        self.shared.policy.check(key, &forward).map_err(|denied| refused(denied.to_string()))?;
        match forward {
            Forward::ConnectSocket(path) | Forward::ListenSocket(path) if self.is_agents_own(path) => {
                Err(refused("sockets in the agent's own directory are not forwarded".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a socket is, or would be, in the agent directory. There are the agent's control socket and other users'
    /// authentication agents, and a key that may run one command alone should not get at them this way.
    fn is_agents_own(&self, path: &str) -> bool {
        let Some(own) = self.shared.agent_dir.as_deref().and_then(|own| own.canonicalize().ok()) else {
            return false;
        };
        let path = self.shared.working_dir.join(path);
        let exists = path.canonicalize().ok();
        let place = exists.or_else(|| path.parent().and_then(|parent| parent.canonicalize().ok()));
        place.is_some_and(|place| place.starts_with(own))
    }

    /// Reports how a request to listen went; the error becomes the text for the user.
    fn reported<T>(&self, forward: Forward<'_>, result: Result<T, Refusal>) -> Result<T, String> {
        self.report(forward.kind(), forward.to_string(), result.as_ref().err());
        result.map_err(|refusal| {
            info!(reason = refusal.text, "a user's forward is refused");
            refusal.text
        })
    }

    fn report(&self, kind: &'static str, target: String, refusal: Option<&Refusal>) {
        match refusal {
            None => debug!(kind, target, "forward opened"),
            // A browser that uses `-D` opens hundreds.
            Some(Refusal { text, .. }) => debug!(kind, target, reason = text, "forward refused"),
        }
        let refused = refusal.map(|refusal| refusal.text.clone());
        let session = self.context.id.clone();
        self.shared.events.emit(Event::Forward { session, kind, target, refused });
    }
}

impl Refusal {
    fn cannot_listen(forward: Forward<'_>, why: &str) -> Self {
        Self { code: CONNECT_FAILED, text: format!("cannot listen on {forward}: {why}") }
    }

    async fn send(self, reply: ChannelOpenHandle) {
        reply.reject(ChannelOpenFailure::Other { code: self.code, reason: self.text }).await;
    }
}

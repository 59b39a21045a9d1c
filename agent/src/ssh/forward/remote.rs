//! Connections that are made to us on a client's behalf, and the channels they become.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug};

use super::Means;
use super::listener::Listener;
use super::pump::{Socket, pump};
use crate::ssh::channels::{ChannelTask, Channels, Slot};
use crate::ssh::output::ChannelOutput;

/// Channels that connections from outside leave to the user, who may want another shell while they flood in.
const RESERVED_SLOTS: usize = 16;

/// How long nothing is accepted after the system gave an error for it, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a connection came in, as the client asked for it.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Port { host: String, port: u32 },
    Socket(String),
    Agent,
}

impl Origin {
    async fn open(
        &self,
        peer: Option<SocketAddr>,
        connection: &Handle,
    ) -> Result<Channel<Msg>, russh::Error> {
        match self {
            Self::Port { host, port } => {
                let (address, peer_port) =
                    peer.map_or((String::new(), 0), |peer| (peer.ip().to_string(), peer.port()));
                connection.channel_open_forwarded_tcpip(host, *port, address, peer_port.into()).await
            }
            Self::Socket(path) => connection.channel_open_forwarded_streamlocal(path).await,
            Self::Agent => connection.channel_open_agent().await,
        }
    }
}

/// Takes connections until told to stop; those that were taken live on.
pub(super) async fn serve(
    listener: Listener,
    origin: Origin,
    means: Means,
    connection: Handle,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => take(socket, peer, &origin, &means, &connection),
            Err(error) => {
                debug!(%error, ?origin, "cannot accept a connection");
                let _ = tokio::time::timeout(ACCEPT_PAUSE, stop.cancelled()).await;
            }
        }
    }
}

fn take(socket: Socket, peer: Option<SocketAddr>, origin: &Origin, means: &Means, connection: &Handle) {
    let slot = match means.slots.clone().try_acquire_owned() {
        Ok(slot) if means.slots.available_permits() >= RESERVED_SLOTS => slot,
        _ => {
            debug!(?origin, "a connection is refused: the client has too many channels open");
            return;
        }
    };
    let forwarding = forward(socket, peer, origin.clone(), means.clone(), connection.clone(), slot);
    means.life.tasks.spawn(forwarding.in_current_span());
}

/// One connection, from its arrival to its end.
async fn forward(
    socket: Socket,
    peer: Option<SocketAddr>,
    origin: Origin,
    means: Means,
    connection: Handle,
    slot: Slot,
) {
    // No limit of time: a client may take long to connect at its side. To stop waiting for its answer would make the
    // library take a late one for an error of the connection.
    let opened = tokio::select! {
        biased;
        () = means.life.ended.cancelled() => return,
        opened = means.arrivals.open(origin.open(peer, &connection)) => opened,
    };
    match opened {
        Ok((channel, task)) => {
            let (_, output) = channel.split();
            // What others send is not what a user does.
            let output = ChannelOutput::new(output, connection, None);
            pump(socket, task, output, &means.life.ended).await;
        }
        Err(error) => debug!(%error, ?origin, "the client does not take a connection"),
    }
    drop(slot);
}

/// Brings together the two parts of a channel that we open: the library hands the channel to whoever opened it, while
/// the connection's task prepares the input, because the first bytes can come right behind the client's answer.
#[derive(Default)]
pub(super) struct Arrivals {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Channels that clients have not answered for.
    unanswered: usize,
    confirmed: HashMap<ChannelId, ChannelTask>,
}

impl Arrivals {
    /// Waits for a channel that is being opened. Not to be dropped while the connection lives.
    async fn open(
        &self,
        opening: impl Future<Output = Result<Channel<Msg>, russh::Error>>,
    ) -> Result<(Channel<Msg>, ChannelTask), russh::Error> {
        self.lock().unanswered += 1;
        let channel = opening.await.inspect_err(|_| {
            let mut state = self.lock();
            state.unanswered = state.unanswered.saturating_sub(1);
        })?;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(task) = self.lock().confirmed.remove(&channel.id()) {
                return Ok((channel, task));
            }
            changed.await;
        }
    }

    /// The client has confirmed a channel. One that we did not open, or that is open already, is ignored.
    pub(super) fn confirm(&self, id: ChannelId, channels: &mut Channels) {
        let mut state = self.lock();
        if state.unanswered == 0 || channels.contains(id) {
            debug!(channel = id.number(), "the client confirms a channel that is not being opened");
            return;
        }
        state.unanswered -= 1;
        state.confirmed.insert(id, channels.add_forward(id));
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock between changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

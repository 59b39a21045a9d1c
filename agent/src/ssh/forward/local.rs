//! Connections from a client into the job: one channel each, from the client's wish to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::Channel;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use tokio::sync::Semaphore;

use super::pump::{Socket, pump};
use super::{CONNECT_FAILED, Means, Refusal, connect};
use crate::ssh::channels::{ChannelTask, Slot};
use crate::ssh::output::ChannelOutput;
use crate::ssh::policy::Forward;

/// A channel that a client wants to open, and how to answer.
pub(in crate::ssh) struct Opening {
    pub(in crate::ssh) channel: Channel<Msg>,
    pub(in crate::ssh) reply: ChannelOpenHandle,
    pub(in crate::ssh) connection: Handle,
}

/// A place to connect to, apart from the request that named it.
pub(super) enum Target {
    Port { host: String, port: u32 },
    Socket(PathBuf),
}

impl Target {
    /// Paths that are not absolute start where programs do.
    pub(super) fn new(forward: Forward<'_>, working_dir: &Path) -> Self {
        match forward {
            Forward::Connect { host, port } => Self::Port { host: host.to_owned(), port },
            other => Self::Socket(working_dir.join(other.to_string())),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Port { host, port } => Forward::Connect { host, port: *port }.to_string(),
            Self::Socket(path) => path.display().to_string(),
        }
    }

    async fn connect(&self) -> Result<Socket, String> {
        match self {
            Self::Port { host, port } => {
                let number = u16::try_from(*port).ok().filter(|number| *number > 0);
                let number =
                    number.ok_or_else(|| format!("cannot connect to {host}:{port}: no such port"))?;
                connect::tcp(host, number).await.map(Socket::from)
            }
            Self::Socket(path) => connect::unix(path).await.map(Socket::from),
        }
    }
}

/// One forwarded connection: connects, answers the client, and copies until the end.
pub(super) async fn serve(
    kind: &'static str,
    target: Target,
    opening: Opening,
    task: ChannelTask,
    slot: Slot,
    connecting: Arc<Semaphore>,
    means: Means,
) {
    let connected = tokio::select! {
        biased;
        () = means.life.ended.cancelled() => return,
        connected = async {
            // Fails only when the semaphore is closed, which it never is.
            let _turn = connecting.acquire().await;
            target.connect().await
        } => connected.map_err(|text| Refusal { code: CONNECT_FAILED, text }),
    };
    means.report(kind, target.name(), connected.as_ref().err());
    let Opening { channel, reply, connection } = opening;
    match connected {
        Err(refusal) => refusal.send(reply).await,
        Ok(socket) => {
            let (_, output) = channel.split();
            reply.accept().await;
            // The library takes answers and data from two queues, and can take data first that were queued just after
            // the answer; they would be lost. Behind this message, which does nothing, it cannot.
            let _ = connection.channel_success(output.id()).await;
            let activity = Some(means.shared.activity.clone());
            pump(socket, task, ChannelOutput::new(output, connection, activity), &means.life.ended).await;
        }
    }
    drop(slot);
}

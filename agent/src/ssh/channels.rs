//! The channels of one connection, as its one task sees them.
//!
//! Session channels and forwarded ones have this in common: an [`InputSender`] into which the task pushes what the
//! client sends, a token that fires when the client closes the channel, and one that says that the channel's own task
//! is done. That task has the other half of each: a [`ChannelTask`].

use std::collections::HashMap;
use std::sync::Arc;

use russh::ChannelId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::SessionChannel;
use super::flow::{Backlog, InputOverflow, InputReader, InputSender, input};

/// How many channels one connection may have open at the same time; those that are being opened or ended count.
pub const MAX_CHANNELS: usize = 256;

/// Counts a channel against [`MAX_CHANNELS`] for as long as it lives.
pub(super) type Slot = OwnedSemaphorePermit;

/// The channels of one connection.
pub(super) struct Channels {
    open: HashMap<ChannelId, OpenChannel>,
    slots: Arc<Semaphore>,
    backlog: Arc<Backlog>,
    /// Fires when the connection ends.
    ended: CancellationToken,
}

/// The connection's half of a channel. Dropping it ends the channel.
struct OpenChannel {
    input: InputSender,
    closed: CancellationToken,
    over: CancellationToken,
    /// `None`: a forwarded connection.
    session: Option<SessionChannel>,
}

/// The half of a channel that belongs to the task which does the channel's work.
pub(super) struct ChannelTask {
    /// What the client sends.
    pub(super) input: InputReader,
    /// Fires when the client has closed the channel, and when the connection ends.
    pub(super) closed: CancellationToken,
    /// Dropped when the work is done and the channel was closed from our side.
    pub(super) over: DropGuard,
}

impl Channels {
    pub(super) fn new(ended: CancellationToken) -> Self {
        Self {
            open: HashMap::new(),
            slots: Arc::new(Semaphore::new(MAX_CHANNELS)),
            backlog: Arc::default(),
            ended,
        }
    }

    /// What has arrived and was not consumed yet.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// What every channel needs one of.
    pub(super) fn slots(&self) -> Arc<Semaphore> {
        Arc::clone(&self.slots)
    }

    /// Room for one more channel; `None` when there is none.
    pub(super) fn reserve(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Whether there is such a channel, as far as the client knows.
    pub(super) fn contains(&self, id: ChannelId) -> bool {
        self.open.contains_key(&id)
    }

    /// Adds a session channel; `new` makes it of its half.
    pub(super) fn add_session(&mut self, id: ChannelId, new: impl FnOnce(ChannelTask) -> SessionChannel) {
        let (mut channel, task) = self.connect();
        channel.session = Some(new(task));
        self.open.insert(id, channel);
    }

    /// Adds a forwarded connection.
    pub(super) fn add_forward(&mut self, id: ChannelId) -> ChannelTask {
        let (channel, task) = self.connect();
        self.open.insert(id, channel);
        task
    }

    fn connect(&mut self) -> (OpenChannel, ChannelTask) {
        self.open.retain(|_, channel| !channel.over.is_cancelled());
        let (sender, reader) = input(Arc::clone(&self.backlog));
        let (closed, over) = (self.ended.child_token(), CancellationToken::new());
        let channel =
            OpenChannel { input: sender, closed: closed.clone(), over: over.clone(), session: None };
        (channel, ChannelTask { input: reader, closed, over: over.drop_guard() })
    }

    /// Queues what the client sends; says whether there is such a channel.
    pub(super) fn push_input(&self, id: ChannelId, data: &[u8]) -> Result<bool, InputOverflow> {
        let Some(channel) = self.open.get(&id) else { return Ok(false) };
        channel.input.push(data).map(|()| true)
    }

    /// The client will send no more.
    pub(super) fn end_input(&self, id: ChannelId) {
        if let Some(channel) = self.open.get(&id) {
            channel.input.end();
        }
    }

    /// The client has closed the channel.
    pub(super) fn close(&mut self, id: ChannelId) {
        self.open.remove(&id);
    }

    pub(super) fn session(&self, id: ChannelId) -> Option<&SessionChannel> {
        self.open.get(&id)?.session.as_ref()
    }

    pub(super) fn session_mut(&mut self, id: ChannelId) -> Option<&mut SessionChannel> {
        self.open.get_mut(&id)?.session.as_mut()
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

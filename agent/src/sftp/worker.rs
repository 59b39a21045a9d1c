//! The thread that executes a session's requests, and the two bounded queues that lead to it and away from it.
//!
//! One thread per session keeps the order of arrival for all requests, so that whatever a client has sent before is
//! done before, on one handle or several. File access is a copy from or to the page cache nearly always; more threads
//! would buy little and cost that promise.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    failure::Failure,
    reply::{Packet, Reply},
    request::Incoming,
    session::Session,
};

/// What a queued item costs beside its own bytes.
const ITEM_BYTES: usize = 256;

/// Something in a queue; its share of the queue's bytes is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Queued<T> {
    pub(super) item: T,
    _share: OwnedSemaphorePermit,
}

/// The sending end of a queue bounded by bytes.
#[derive(Debug)]
pub(super) struct Sender<T> {
    queue: mpsc::UnboundedSender<Queued<T>>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

pub(super) type Receiver<T> = mpsc::UnboundedReceiver<Queued<T>>;

/// The other end of the queue is gone.
#[derive(Debug)]
pub(super) struct Closed;

fn queue<T>(budget_bytes: u32) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let budget = Arc::new(Semaphore::new(budget_bytes as usize));
    (Sender { queue: sender, budget, budget_bytes }, receiver)
}

impl<T> Sender<T> {
    /// Waits until there is room for `bytes`, then queues. Cancel-safe: what was not queued never arrives.
    pub(super) async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        // More than the whole budget would wait for ever; nothing is that large.
        let cost = u32::try_from(bytes.saturating_add(ITEM_BYTES)).unwrap_or(u32::MAX).min(self.budget_bytes);
        let share = self.budget.clone().acquire_many_owned(cost).await.map_err(|_| Closed)?;
        self.queue.send(Queued { item, _share: share }).map_err(|_| Closed)
    }
}

/// What the two asynchronous halves of a session need of its worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) requests: Sender<Incoming>,
    pub(super) replies: Receiver<Packet>,
    /// Dropping it ends the worker after the request it is at.
    pub(super) stop: StopOnDrop,
}

/// Ends the worker when it is dropped; requests still queued are not executed.
#[derive(Debug)]
pub(super) struct StopOnDrop {
    stopped: Arc<AtomicBool>,
    reply_budget: Arc<Semaphore>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.reply_budget.close();
    }
}

impl Worker {
    /// Starts the thread. It ends when `requests` is dropped and the queue is empty, or when it is stopped; then all
    /// handles are closed, and only then `replies` ends.
    ///
    /// A thread rather than one of the runtime's: a file system that hangs must not keep the runtime from shutting down.
    pub(super) fn start(
        request_bytes: u32,
        reply_bytes: u32,
        session: impl FnOnce(Arc<AtomicBool>) -> Session + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, queued_requests) = queue(request_bytes);
        let (queued_replies, replies) = queue(reply_bytes);
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = StopOnDrop { stopped: stopped.clone(), reply_budget: queued_replies.budget.clone() };
        let runtime = Handle::current();
        thread::Builder::new().name("sftp".into()).spawn(move || {
            let mut session = session(stopped.clone());
            run(&mut session, queued_requests, &queued_replies, &stopped, &runtime);
            drop(session);
            drop(queued_replies);
        })?;
        Ok(Self { requests, replies, stop })
    }
}

fn run(
    session: &mut Session,
    mut requests: Receiver<Incoming>,
    replies: &Sender<Packet>,
    stopped: &AtomicBool,
    runtime: &Handle,
) {
    while let Some(queued) = requests.blocking_recv() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let packet = match queued.item {
            Incoming::Init { version } => {
                tracing::debug!(version, "client's SFTP version");
                Packet::version()
            }
            Incoming::Request { id, request } => session.execute(request).into_packet(id),
            Incoming::Malformed { id, error } => {
                Reply::Failed(Failure::bad_message(error.to_string())).into_packet(id)
            }
        };
        let held_bytes = packet.held_bytes();
        if let Err(Closed) = runtime.block_on(replies.send(packet, held_bytes)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::{attrs::Attrs, paths::Root, request::Request};

    /// Whether the queue takes so many bytes at once.
    async fn takes(sender: &Sender<()>, bytes: usize) -> bool {
        tokio::select! {
            biased;
            sent = sender.send((), bytes) => sent.is_ok(),
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_queue_holds_its_bytes_and_no_more() {
        let (sender, mut receiver) = queue(10 * 1024);
        assert!(takes(&sender, 9 * 1024).await);
        assert!(!takes(&sender, 1024).await);
        assert!(takes(&sender, 1024 - 2 * ITEM_BYTES).await);
        assert!(!takes(&sender, 0).await);
        drop(receiver.recv().await);
        assert!(takes(&sender, 1024).await);
    }

    #[tokio::test]
    async fn an_item_beyond_the_whole_budget_goes_alone() {
        let (sender, mut receiver) = queue(1024);
        assert!(takes(&sender, usize::MAX).await);
        assert!(!takes(&sender, 0).await);
        drop(receiver.recv().await);
        assert!(takes(&sender, 0).await);
    }

    #[tokio::test]
    async fn requests_after_a_stop_are_not_executed() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path().to_owned());
        let worker = Worker::start(1 << 20, 1 << 20, |stopped| Session::new(root, 16, stopped));
        let Worker { requests, mut replies, stop } = worker.unwrap();
        drop(stop);
        let request = Request::Mkdir { path: "d".into(), attrs: Attrs::default() };
        let request = Incoming::Request { id: 1, request };
        let _ = requests.send(request, 1).await;
        assert!(replies.recv().await.is_none());
        assert!(!directory.path().join("d").exists());
    }
}

//! A session over streams that come and go: the I/O around [`converge_proto::session`].
//!
//! [`SessionIo`] is the application's side: bytes, as if nothing ever broke. [`SessionLink`] is the side of the streams:
//! whoever has one attaches it and [drives](Attachment::drive) it until it breaks or the session is over.

mod copy;
mod io;
mod pieces;

pub use copy::{SessionCopyError, copy_session, read_ahead};
pub use io::SessionIo;
pub use pieces::Pieces;

use crate::{
    close::{LinkError, StreamError},
    schedule::sleep_until,
    stream::{RecvHalf, SendHalf, Stream},
};
use bytes::Bytes;
use converge_proto::{
    rendezvous::RefusalCode,
    session::{Attach, Attached, FirstBytes, Notice, Session, SessionError, SessionEvent},
};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// So many bytes that wait for the application are a reason to let it have its turn.
const READER_IS_BEHIND: u64 = 128 * 1024;

/// Frames that are handed to a stream at once.
const MAX_FRAMES: usize = 8;

/// What a chunk means for the reading of further ones.
enum Handled {
    GoOn,
    /// The application has not taken what came before.
    ReaderIsBehind,
    /// The session is over by it.
    Over,
}

/// The side of a session that streams are attached to, one at a time. Clones are the same session.
#[derive(Clone, Debug)]
pub struct SessionLink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There may be something to transmit, or an earlier time-out.
    transmit: Notify,
    /// There may be an event.
    events: Notify,
    /// The session is over.
    over: Notify,
    /// Whether a stream is driven, or about to be.
    attached: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The application waits for something to read.
    reader: Option<Waker>,
    /// The application waits for room to write.
    writer: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes whom the last change concerns.
    fn wake(&mut self, shared: &Shared) {
        let is_broken = self.session.error().is_some();
        if is_broken || self.session.is_readable() || self.session.is_at_end() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        if is_broken || self.session.room() > 0 {
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        if self.session.is_transmit_due() || self.session.is_over() {
            shared.transmit.notify_one();
        }
        if self.session.has_event() {
            shared.events.notify_one();
        }
        if self.session.is_over() {
            shared.over.notify_waiters();
        }
    }
}

impl SessionLink {
    /// A client's end of a new session.
    pub fn client() -> (SessionIo, Self) {
        Self::new(Session::client(Instant::now()))
    }

    /// An agent's end of a new session.
    pub fn agent() -> (SessionIo, Self) {
        Self::new(Session::agent())
    }

    fn new(session: Session) -> (SessionIo, Self) {
        let state = Mutex::new(State { session, reader: None, writer: None });
        let (transmit, events, over) = (Notify::new(), Notify::new(), Notify::new());
        let shared = Arc::new(Shared { state, transmit, events, over, attached: watch::Sender::new(false) });
        (SessionIo::new(shared.clone()), Self { shared })
    }

    /// See [`Session::offsets`].
    pub fn offsets(&self) -> (u64, u64) {
        self.shared.lock().session.offsets()
    }

    /// See [`Session::first`].
    pub fn first(&self) -> Option<FirstBytes> {
        self.shared.lock().session.first()
    }

    /// See [`Session::accept`]. Any earlier attachment has been dropped by then.
    ///
    /// # Errors
    /// As there.
    pub fn accept(&self, attach: &Attach) -> Result<(Attached, Attachment), SessionError> {
        let mut state = self.shared.lock();
        let attached = state.session.accept(attach, Instant::now())?;
        state.wake(&self.shared);
        Ok((attached, self.attachment()))
    }

    /// See [`Session::attach`]. Any earlier attachment has been dropped by then.
    ///
    /// # Errors
    /// As there.
    pub fn attach(&self, attached: &Attached) -> Result<Attachment, SessionError> {
        let mut state = self.shared.lock();
        state.session.attach(attached, Instant::now())?;
        state.wake(&self.shared);
        Ok(self.attachment())
    }

    fn attachment(&self) -> Attachment {
        self.shared.attached.send_replace(true);
        Attachment { shared: self.shared.clone() }
    }

    /// Tells the person at the other end something.
    pub fn notify(&self, notice: Notice) {
        let mut state = self.shared.lock();
        state.session.notify(notice);
        state.wake(&self.shared);
    }

    /// Gives the session up, for both ends. The other end hears of it on the stream that is driven, if there is one.
    pub fn reset(&self, code: RefusalCode, text: &str) {
        let mut state = self.shared.lock();
        state.session.reset(code, text);
        state.wake(&self.shared);
    }

    /// Asks the other end at once whether it is there.
    pub fn doubt(&self) {
        self.shared.lock().session.doubt(Instant::now());
        self.shared.transmit.notify_one();
    }

    /// Whether the other end has not said yet that it has everything that was sent.
    pub fn is_unacked(&self) -> bool {
        self.shared.lock().session.is_unacked()
    }

    /// Whether the other end has not answered for too long.
    pub fn is_suspected(&self) -> bool {
        self.shared.lock().session.is_suspected()
    }

    /// Whether both directions have ended, or the session was given up.
    pub fn is_over(&self) -> bool {
        self.shared.lock().session.is_over()
    }

    /// Whether everything the other end will ever send has been read.
    pub fn is_at_end(&self) -> bool {
        self.shared.lock().session.is_at_end()
    }

    /// Why the session is over before its end, if it is.
    pub fn error(&self) -> Option<SessionError> {
        self.shared.lock().session.error().cloned()
    }

    /// The next event. Cancel-safe.
    pub async fn next_event(&self) -> SessionEvent {
        loop {
            let event = self.shared.lock().session.next_event();
            match event {
                Some(event) => return event,
                None => self.shared.events.notified().await,
            }
        }
    }

    /// Waits until the session has been without a stream for so long without a break. Cancel-safe.
    pub async fn abandoned(&self, time: Duration) {
        let mut attached = self.shared.attached.subscribe();
        loop {
            // The sender lives as long as this does.
            let _ = attached.wait_for(|attached| !attached).await;
            let back = tokio::time::timeout(time, attached.wait_for(|attached| *attached)).await.is_ok();
            if !back {
                return;
            }
        }
    }

    /// Waits until the session is over.
    pub async fn over(&self) {
        loop {
            let over = self.shared.over.notified();
            tokio::pin!(over);
            // Registered before the look, so that no end is missed between the two.
            over.as_mut().enable();
            if self.is_over() {
                return;
            }
            over.await;
        }
    }
}

/// A session while it is attached to a stream; dropping it detaches the session.
#[derive(Debug)]
pub struct Attachment {
    shared: Arc<Shared>,
}

impl Attachment {
    /// Moves bytes between the session and the stream, until the session is over.
    ///
    /// # Errors
    /// [`StreamError`] when the stream broke; the session need not end with it.
    pub async fn drive(&self, stream: &mut Stream) -> Result<(), StreamError> {
        let Stream { recv, send } = stream;
        tokio::select! {
            biased; // What has arrived counts before what the sending direction makes of it.
            received = self.receive(recv) => received,
            transmitted = self.transmit(send) => transmitted,
        }
    }

    /// Ends with an error, or when the session is over and nothing is left to be said.
    async fn receive(&self, recv: &mut RecvHalf) -> Result<(), StreamError> {
        loop {
            let Some(chunk) = recv.read_chunk().await? else {
                if self.shared.lock().session.is_over() {
                    return Ok(());
                }
                return Err(LinkError::Broken("the stream ended before the session".to_owned()).into());
            };
            let mut chunks = vec![chunk];
            let more = recv.read_more(&mut chunks);
            match self.handle_chunks(chunks) {
                Handled::Over => return Ok(()),
                // Its bytes are still in the processor's cache; and what is taken now need not be kept.
                Handled::ReaderIsBehind => tokio::task::yield_now().await,
                Handled::GoOn => {}
            }
            more?;
        }
    }

    fn handle_chunks(&self, chunks: Vec<Bytes>) -> Handled {
        let mut state = self.shared.lock();
        let (due, now) = (state.session.poll_timeout(), Instant::now());
        let handled = chunks.into_iter().try_for_each(|chunk| state.session.handle_chunk(chunk, now));
        state.wake(&self.shared);
        // An acknowledgement that waits for company must not wait for it for ever.
        if state.session.poll_timeout().is_some_and(|now_due| due.is_none_or(|due| now_due < due)) {
            self.shared.transmit.notify_one();
        }
        if handled.is_err() {
            Handled::Over
        } else if state.session.unread_bytes() >= READER_IS_BEHIND {
            Handled::ReaderIsBehind
        } else {
            Handled::GoOn
        }
    }

    /// Ends with an error, or when the session is over and everything was said.
    async fn transmit(&self, send: &mut SendHalf) -> Result<(), StreamError> {
        loop {
            let (mut frames, is_over, due) = {
                let mut state = self.shared.lock();
                let now = Instant::now();
                let polled = std::iter::from_fn(|| state.session.poll_transmit(now)).take(MAX_FRAMES);
                // Without a frame this holds no memory.
                let frames: Vec<_> = polled.collect();
                let is_over = state.session.is_over();
                if is_over {
                    // The last thing to do may have been to say something.
                    self.shared.over.notify_waiters();
                }
                (frames, is_over, state.session.poll_timeout())
            };
            if !frames.is_empty() {
                tokio::select! {
                    biased; // Mostly there is room at once.
                    written = send.write_chunks(&mut frames) => written?,
                    never = self.run_timers() => match never {},
                }
                continue;
            }
            send.flush().await?;
            if is_over {
                return Ok(());
            }
            tokio::select! {
                () = self.shared.transmit.notified() => {}
                () = sleep_until(due) => self.handle_timeout(),
                error = send.keep_alive() => return Err(error),
            }
        }
    }

    /// Lets time pass while a stream takes nothing: that is when a peer becomes suspect.
    async fn run_timers(&self) -> Infallible {
        loop {
            let due = self.shared.lock().session.poll_timeout();
            tokio::select! {
                () = sleep_until(due) => self.handle_timeout(),
                // An earlier time-out. What there is to transmit is looked for after the write anyway.
                () = self.shared.transmit.notified() => {}
            }
        }
    }

    fn handle_timeout(&self) {
        let mut state = self.shared.lock();
        state.session.handle_timeout(Instant::now());
        state.wake(&self.shared);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.shared.lock().session.detach();
        self.shared.attached.send_replace(false);
    }
}

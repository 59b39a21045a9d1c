//! One end of a session.

use super::{
    decoder::{Decoder, Item},
    messages::{Ack, Attach, Attached, FirstBytes, Notice, Reset},
    receiving::{AckDue, Receiving, Violation},
    sending::{DataBuffer, Sending, WrongOffset},
    watch::{Watch, WatchAction},
};
use crate::{
    frame::{FrameError, FrameType},
    message::Message,
    rendezvous::{Ping, Pong, RefusalCode, messages::Line},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long an acknowledgement may wait for company. Far below [`Watch::SUSPICION`].
const ACK_DELAY: Duration = Duration::from_millis(100);
/// The last `Data` or `Fin` gets an `Ack` behind it after so long. A carrier sees that something is missing by what comes after it
/// (RFC 9002, section 6.1), and otherwise waits for its own time-out (section 6.2), which for QUIC is another round trip, and for
/// TCP more. Shorter than what a carrier waits beyond a round trip, longer than what it takes together into one packet.
const TAIL_DELAY: Duration = Duration::from_millis(5);
/// Notices that may wait to be sent, or to be shown; older ones go.
const MAX_NOTICES: usize = 16;

/// One end of a session, without I/O.
///
/// The application side calls [`push`](Self::push) or [`write`](Self::write) within [`room`](Self::room),
/// [`finish`](Self::finish), and [`read`](Self::read). The stream side calls [`attach`](Self::attach) or
/// [`accept`](Self::accept) when there is a stream, then [`handle_chunk`](Self::handle_chunk) with what arrives and sends what
/// [`poll_transmit`](Self::poll_transmit) gives, until it is empty; after each of these, and after
/// [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout), there may be more to send, to read
/// and to write. When the stream is lost: [`detach`](Self::detach), and attach again.
#[derive(Debug)]
pub struct Session {
    sending: Sending,
    receiving: Receiving,
    decoder: Decoder,
    attached: bool,
    ack_at: Option<Instant>,
    ack_now: bool,
    /// When an `Ack` goes behind the `Data` or `Fin` that was sent last.
    tail_at: Option<Instant>,
    pong: Option<u64>,
    ping: Option<u64>,
    notices: VecDeque<Notice>,
    events: VecDeque<SessionEvent>,
    /// Only a client watches: it is the one that can go elsewhere.
    watch: Option<Watch>,
    over: Option<SessionError>,
    reset_due: Option<Reset>,
}

/// What a chunk brought.
enum Traffic {
    /// Bytes of the session.
    Data,
    /// Acknowledgements and the like.
    Answers,
}

/// Something for the owner of a session, besides bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Words for the person.
    Notice(Notice),
    /// The peer has not answered for [`Watch::SUSPICION`].
    Suspected,
    /// The suspected peer has answered.
    Answered,
}

/// Why a session is over before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer broke a rule of the session; nothing it says can be relied on.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer's offset is not one it can have.
    #[error(
        "the peer says it has {received} bytes; it has acknowledged {acked} before and was sent {sent} at most"
    )]
    WrongOffset {
        /// What it says.
        received: u64,
        /// What it has said before.
        acked: u64,
        /// What it can have at most.
        sent: u64,
    },
    /// The peer would send from an offset that leaves a gap.
    #[error("the peer sends from {start}, and everything only up to {received} has arrived")]
    Gap {
        /// Where it sends from.
        start: u64,
        /// What this end has.
        received: u64,
    },
    /// The peer sent more than it was allowed.
    #[error("the peer sent more than it was allowed")]
    BeyondLimit,
    /// The peer sent something behind the end of its direction.
    #[error("the peer sent bytes behind the end of its direction")]
    BehindFin,
    /// The peer gave the session up.
    #[error("{text}")]
    ResetByPeer {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: Line,
    },
    /// This side gave the session up.
    #[error("{text}")]
    ResetHere {
        /// Why.
        text: Line,
    },
}

impl From<WrongOffset> for SessionError {
    fn from(WrongOffset { received, acked, sent }: WrongOffset) -> Self {
        Self::WrongOffset { received, acked, sent }
    }
}

impl From<Violation> for SessionError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::BeyondLimit => Self::BeyondLimit,
            Violation::BehindFin => Self::BehindFin,
        }
    }
}

impl Session {
    fn new(sending: Sending, watch: Option<Watch>) -> Self {
        Self {
            sending,
            receiving: Receiving::new(),
            decoder: Decoder::default(),
            attached: false,
            ack_at: None,
            ack_now: false,
            tail_at: None,
            pong: None,
            ping: None,
            notices: VecDeque::new(),
            events: VecDeque::new(),
            watch,
            over: None,
            reset_due: None,
        }
    }

    /// The end that attaches and watches.
    pub fn client(now: Instant) -> Self {
        Self::new(Sending::with_first(), Some(Watch::new((Watch::PAUSE, Watch::IDLE), now)))
    }

    /// The end that is attached to.
    pub fn agent() -> Self {
        Self::new(Sending::new(), None)
    }

    /// How many bytes may be written now. Before the first attach a client has room for [`FirstBytes::MAX_BYTES`], and an agent for
    /// nothing.
    pub fn room(&self) -> usize {
        if self.over.is_some() || self.sending.is_finishing() { 0 } else { self.sending.room() }
    }

    /// Takes as many bytes as there is [`room`](Self::room) for, copying them. Returns how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.room() == 0 { 0 } else { self.sending.write(bytes) }
    }

    /// Takes the bytes of a buffer that was filled within the [`room`](Self::room), without copying them.
    pub fn push(&mut self, buffer: &mut DataBuffer) {
        debug_assert!(buffer.len() <= self.room() || self.over.is_some());
        self.sending.push(buffer);
    }

    /// Nothing more will be written.
    pub fn finish(&mut self) {
        self.sending.finish();
    }

    /// The next bytes from the peer. What was taken counts as consumed, so that the peer may send more.
    pub fn read(&mut self) -> Option<Bytes> {
        self.receiving.read()
    }

    /// The same, at most `max` bytes.
    pub fn read_some(&mut self, max: usize) -> Option<Bytes> {
        self.receiving.read_some(max)
    }

    /// Nothing more will be read: what the peer sends is dropped.
    pub fn discard(&mut self) {
        self.receiving.discard();
    }

    /// How many bytes there are to read.
    pub fn unread_bytes(&self) -> u64 {
        self.receiving.unread_bytes()
    }

    /// Whether there are bytes to read.
    pub fn is_readable(&self) -> bool {
        self.receiving.is_readable()
    }

    /// Whether everything the peer will ever send has been read.
    pub fn is_at_end(&self) -> bool {
        self.receiving.is_at_end()
    }

    /// Why the session is over before its end, if it is.
    pub fn error(&self) -> Option<&SessionError> {
        self.over.as_ref()
    }

    /// Whether nothing is left to do: both directions have ended and both ends know it, or the session was given up
    /// and that was said.
    pub fn is_over(&self) -> bool {
        if self.over.is_some() {
            return self.reset_due.is_none();
        }
        self.sending.is_done() && self.receiving.has_fin() && self.receiving.ack_due() == AckDue::Not
    }

    /// Whether there is an event.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Tells the peer's person something. Only agents do; a notice that cannot be sent soon may be dropped.
    pub fn notify(&mut self, notice: Notice) {
        if self.notices.len() == MAX_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Gives the session up.
    pub fn reset(&mut self, code: RefusalCode, text: &str) {
        if self.over.is_none() && !self.is_over() {
            let text = Line::new(text);
            self.end_with(SessionError::ResetHere { text: text.clone() });
            self.reset_due = Some(Reset { code, text });
        }
    }

    fn end_with(&mut self, error: SessionError) {
        self.over.get_or_insert(error);
        self.sending.clear();
        self.receiving.discard();
    }

    /// What an [`Attach`] says of this end: the offset up to which everything was received, and that up to which the
    /// peer may send.
    pub fn offsets(&self) -> (u64, u64) {
        (self.receiving.received(), self.receiving.limit())
    }

    /// What goes along with each [`Attach`] until one was answered.
    pub fn first(&mut self) -> Option<FirstBytes> {
        Some(self.sending.first()).filter(|first| !first.is_empty()).map(FirstBytes::of)
    }

    /// The agent's side of a new stream: the client has sent `attach`, which was admitted. Returns the answer.
    ///
    /// # Errors
    /// [`SessionError::WrongOffset`] when the client cannot have what it says; nothing is changed then.
    pub fn accept(&mut self, attach: &Attach, now: Instant) -> Result<Attached, SessionError> {
        let start = self.sending.restart(attach.received, attach.limit)?;
        if let Some(first) = attach.first.as_ref().filter(|_| self.receiving.received() == 0) {
            self.receiving.restart(0);
            self.receiving.handle_data(&Bytes::copy_from_slice(first.as_slice()))?;
        }
        let (received, limit) = self.offsets();
        self.restart(received, now);
        Ok(Attached { received, limit, start })
    }

    /// The client's side of a new stream: the agent has answered `attached`.
    ///
    /// # Errors
    /// [`SessionError::WrongOffset`] when the agent cannot have what it says, or sends from where this end has nothing
    /// yet; nothing is changed then.
    pub fn attach(&mut self, attached: &Attached, now: Instant) -> Result<(), SessionError> {
        let (acked, received) = (self.sending.acked(), self.receiving.received());
        if attached.received < acked {
            return Err(self.sending.wrong(attached.received).into());
        }
        if attached.start > received {
            return Err(SessionError::Gap { start: attached.start, received });
        }
        self.sending.restart(attached.received, attached.limit)?;
        self.restart(attached.start, now);
        Ok(())
    }

    /// The peer sends from `offset`.
    fn restart(&mut self, offset: u64, now: Instant) {
        self.receiving.restart(offset);
        self.decoder = Decoder::default();
        self.attached = true;
        // What was said on the old stream may not have arrived.
        self.ack_now = true;
        self.tail_at = None;
        self.pong = None;
        self.ping = None;
        if let Some(watch) = &mut self.watch {
            *watch = Watch::new((Watch::PAUSE, Watch::IDLE), now);
        }
    }

    /// The stream is lost, or another one takes its place.
    pub fn detach(&mut self) {
        self.attached = false;
    }

    /// Whether there is a stream.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// What arrived on the stream.
    ///
    /// # Errors
    /// [`SessionError`]: the peer broke a rule or gave the session up. The session is over then.
    pub fn handle_chunk(&mut self, mut chunk: Bytes, now: Instant) -> Result<(), SessionError> {
        // The peer cannot know yet that it was given up; what it says meanwhile must not keep that from being said.
        if self.over.is_some() {
            return Ok(());
        }
        let traffic = match self.handle_items(&mut chunk) {
            Ok(traffic) => traffic,
            Err(error) => {
                self.end_with(error.clone());
                return Err(error);
            }
        };
        self.plan_ack(now);
        if let Some(watch) = &mut self.watch {
            if watch.is_suspected() {
                self.events.push_back(SessionEvent::Answered);
            }
            let more_due = self.sending.is_unacked();
            match traffic {
                Traffic::Data => watch.handle_received(more_due, now),
                Traffic::Answers => watch.handle_answer(more_due, now),
            }
        }
        Ok(())
    }

    fn handle_items(&mut self, chunk: &mut Bytes) -> Result<Traffic, SessionError> {
        let mut traffic = Traffic::Answers;
        while let Some(item) = self.decoder.next(chunk)? {
            let frame = match item {
                Item::Data(piece) => {
                    traffic = Traffic::Data;
                    self.receiving.handle_data(&piece)?;
                    continue;
                }
                Item::Frame(frame) => frame,
            };
            match frame.frame_type {
                FrameType::ACK => {
                    let Ack { received, limit } = Ack::from_frame(&frame)?;
                    self.sending.handle_ack(received, limit)?;
                }
                FrameType::FIN if frame.payload.is_empty() => self.receiving.handle_fin()?,
                FrameType::PING => self.pong = Some(Ping::from_frame(&frame)?.token),
                FrameType::PONG => drop(Pong::from_frame(&frame)?),
                FrameType::NOTICE => {
                    let notice = Notice::from_frame(&frame)?;
                    if self.events.len() < MAX_NOTICES {
                        self.events.push_back(SessionEvent::Notice(notice));
                    }
                }
                FrameType::RESET => {
                    let Reset { code, text } = Reset::from_frame(&frame)?;
                    return Err(SessionError::ResetByPeer { code, text });
                }
                frame_type if !frame_type.is_known() => {
                    return Err(FrameError::Unsupported { frame_type }.into());
                }
                frame_type => {
                    let expected = "a frame of a session";
                    return Err(FrameError::Unexpected { frame_type, expected }.into());
                }
            }
        }
        Ok(traffic)
    }

    fn plan_ack(&mut self, now: Instant) {
        match self.receiving.ack_due() {
            AckDue::Now => self.ack_now = true,
            AckDue::Soon => {
                self.ack_at.get_or_insert(now + ACK_DELAY);
            }
            AckDue::Not => {}
        }
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something.
    pub fn is_transmit_due(&self) -> bool {
        self.attached
            && (self.reset_due.is_some()
                || self.over.is_none()
                    && (self.ack_now
                        || self.pong.is_some()
                        || self.ping.is_some()
                        || !self.notices.is_empty()
                        || self.receiving.ack_due() == AckDue::Now
                        || self.sending.is_ready()))
    }

    /// The next bytes for the stream; `None` when there are none for now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if !self.attached {
            return None;
        }
        if let Some(reset) = self.reset_due.take() {
            return Some(reset.to_frame().to_bytes());
        }
        if self.over.is_some() {
            return None;
        }
        if let Some(token) = self.pong.take() {
            return Some(Pong { token }.to_frame().to_bytes());
        }
        // Consuming makes room, which the peer hears of in time; and what goes out anyway takes an `Ack` along.
        if self.receiving.ack_due() == AckDue::Now || (self.ack_at.is_some() && self.sending.is_ready()) {
            self.ack_now = true;
        }
        if self.ack_now {
            self.ack_now = false;
            self.ack_at = None;
            let (received, limit) = self.receiving.ack();
            return Some(Ack { received, limit }.to_frame().to_bytes());
        }
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice.to_frame().to_bytes());
        }
        if let Some(token) = self.ping.take() {
            return Some(Ping { token }.to_frame().to_bytes());
        }
        let frame = self.sending.poll()?;
        self.tail_at = Some(now + TAIL_DELAY);
        if let Some(watch) = &mut self.watch {
            watch.handle_sent(now);
        }
        Some(frame)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.attached || self.over.is_some() {
            return None;
        }
        let watch = self.watch.as_ref().map(Watch::poll_timeout);
        [self.ack_at, self.tail_at, watch].into_iter().flatten().min()
    }

    /// Call at or after [`poll_timeout`](Self::poll_timeout); then there may be something to transmit, and events.
    pub fn handle_timeout(&mut self, now: Instant) {
        if [self.ack_at, self.tail_at].into_iter().flatten().any(|due| due <= now) {
            self.ack_now = true;
            self.tail_at = None;
        }
        let Some(watch) = &mut self.watch else { return };
        match watch.handle_timeout(now) {
            WatchAction::Ask(token) => self.ping = Some(token),
            WatchAction::Suspect => self.events.push_back(SessionEvent::Suspected),
            WatchAction::Wait => {}
        }
    }

    /// Whether the peer has not acknowledged everything that was sent.
    pub fn is_unacked(&self) -> bool {
        self.sending.is_unacked()
    }

    /// Whether the peer has not answered for [`Watch::SUSPICION`].
    pub fn is_suspected(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_suspected)
    }

    /// Asks the peer at once whether it is there, as when the host's network has changed.
    pub fn doubt(&mut self, now: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.doubt(now);
        }
    }
}

//! Sessions over streams that break: whatever is cut, delayed or repeated, each side reads exactly what the other wrote.

#![allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

use bytes::{BufMut, Bytes};
use converge_proto::session::{
    Attach, AttachGate, Attached, DataBuffer, FirstBytes, Secret, Session, SessionError, SessionEvent,
    SessionId, WINDOW_BYTES, Watch,
};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// An application writes so many bytes, as a slice or as a buffer.
    Write { client: bool, len: usize, as_buffer: bool },
    /// A stream carries so many bytes on.
    Carry { to_agent: bool, len: usize },
    /// An application reads a piece, of so many bytes at most.
    Read { client: bool, max: usize },
    /// The stream breaks: what is on its way is lost, and the session is attached to another one.
    Break,
    /// A new stream is attached while the old one goes on delivering so many bytes to the client, then to the agent.
    Move { late: usize, acked: usize },
    /// Time passes.
    Wait { ms: u64 },
    /// An application has written everything.
    Finish { client: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![Just(1), 1usize..100, 1usize..200_000, Just(65_536)];
    let step = prop_oneof![
        4 => (any::<bool>(), len.clone(), any::<bool>())
            .prop_map(|(client, len, as_buffer)| Step::Write { client, len, as_buffer }),
        6 => (any::<bool>(), len.clone()).prop_map(|(to_agent, len)| Step::Carry { to_agent, len }),
        4 => (any::<bool>(), len.clone()).prop_map(|(client, max)| Step::Read { client, max }),
        1 => Just(Step::Break),
        1 => (len.clone(), len).prop_map(|(late, acked)| Step::Move { late, acked }),
        2 => (0u64..400).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|client| Step::Finish { client }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// One end, its application, and what is on its way to it.
struct End {
    session: Session,
    written: u64,
    finished: bool,
    read: u64,
    inbound: VecDeque<Bytes>,
}

/// The byte at an offset of either direction: never the same at offsets that a mistake would mix up.
fn byte(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)).to_le_bytes()[0].wrapping_mul(31)
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, written: 0, finished: false, read: 0, inbound: VecDeque::new() }
    }

    fn write(&mut self, len: usize, as_buffer: bool) {
        if self.finished {
            return;
        }
        let len = len.min(self.session.room());
        let bytes: Vec<u8> = (self.written..self.written + len as u64).map(byte).collect();
        if as_buffer {
            let mut rest = &bytes[..];
            let mut buffer = DataBuffer::default();
            while !rest.is_empty() {
                let now = rest.len().min(buffer.spare(rest.len()).remaining_mut());
                buffer.spare(now).put_slice(&rest[..now]);
                rest = &rest[now..];
                self.session.push(&mut buffer);
                assert!(buffer.is_empty());
            }
        } else {
            assert_eq!(self.session.write(&bytes), len);
        }
        self.written += len as u64;
    }

    fn finish(&mut self) {
        self.finished = true;
        self.session.finish();
    }

    fn read(&mut self, max: usize) -> usize {
        let Some(piece) = self.session.read_some(max) else { return 0 };
        assert!(!piece.is_empty() && piece.len() <= max);
        let expected: Vec<u8> = (self.read..self.read + piece.len() as u64).map(byte).collect();
        assert!(piece == expected, "wrong bytes at {}", self.read);
        self.read += piece.len() as u64;
        piece.len()
    }
}

struct Pair {
    client: End,
    agent: End,
    gate: AttachGate,
    attempt: u32,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Self::after(&[])
    }

    /// A pair that was joined after so many attaches in vain: what the client had written before each, and whether the
    /// agent got it and only its answer was lost.
    fn after(in_vain: &[(usize, bool)]) -> Self {
        let now = Instant::now();
        let client = End::new(Session::client(now));
        let gate = AttachGate::begin(&attach(&client.session, 0, false)).unwrap();
        let mut pair = Self { client, agent: End::new(Session::agent()), gate, attempt: 0, now };
        for (written, arrives) in in_vain {
            pair.client.write(*written, written % 2 == 0);
            let attach = pair.first_attach();
            if *arrives {
                pair.agent.session.accept(&attach, now).unwrap();
                pair.agent.session.detach();
            }
        }
        let attach = pair.first_attach();
        pair.join(&attach);
        pair
    }

    fn first_attach(&mut self) -> Attach {
        self.attempt += 1;
        let first = self.client.session.first();
        Attach { first, ..attach(&self.client.session, self.attempt, false) }
    }

    fn end(&mut self, client: bool) -> &mut End {
        if client { &mut self.client } else { &mut self.agent }
    }

    /// Both ends are told of a new stream.
    fn join(&mut self, attach: &Attach) {
        let attached = self.agent.session.accept(attach, self.now).unwrap();
        self.agent.inbound.clear();
        self.client.session.attach(&attached, self.now).unwrap();
        self.client.inbound.clear();
    }

    fn attach_again(&mut self) -> Attach {
        self.attempt += 1;
        let attach = attach(&self.client.session, self.attempt, true);
        assert_eq!(self.gate.admit(&attach), Ok(()));
        attach
    }

    fn carry(&mut self, to_agent: bool, len: usize) -> usize {
        let now = self.now;
        let (from, to) =
            if to_agent { (&mut self.client, &mut self.agent) } else { (&mut self.agent, &mut self.client) };
        while let Some(chunk) = from.session.poll_transmit(now) {
            to.inbound.push_back(chunk);
        }
        let mut left = len;
        while left > 0
            && let Some(chunk) = to.inbound.front_mut()
        {
            let piece = chunk.split_to(left.min(chunk.len()));
            if chunk.is_empty() {
                to.inbound.pop_front();
            }
            left -= piece.len();
            to.session.handle_chunk(piece, now).unwrap();
        }
        len - left
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { client, len, as_buffer } => self.end(client).write(len, as_buffer),
            Step::Carry { to_agent, len } => drop(self.carry(to_agent, len)),
            Step::Read { client, max } => drop(self.end(client).read(max)),
            Step::Break => {
                self.client.session.detach();
                self.agent.session.detach();
                let attach = self.attach_again();
                self.join(&attach);
            }
            Step::Move { late, acked } => {
                let attach = self.attach_again();
                self.carry(false, late);
                self.carry(true, acked);
                self.join(&attach);
            }
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                for session in [&mut self.client.session, &mut self.agent.session] {
                    if session.poll_timeout().is_some_and(|due| due <= self.now) {
                        session.handle_timeout(self.now);
                    }
                }
            }
            Step::Finish { client } => self.end(client).finish(),
        }
    }

    /// Lets everything arrive, without a break.
    fn settle(&mut self) {
        self.client.finish();
        self.agent.finish();
        for _ in 0..10_000 {
            let moved = self.carry(true, usize::MAX) + self.carry(false, usize::MAX);
            let read = self.client.read(usize::MAX) + self.agent.read(usize::MAX);
            self.step(&Step::Wait { ms: 150 });
            if moved + read == 0 && self.client.session.is_over() && self.agent.session.is_over() {
                return;
            }
        }
        panic!("never over: {:?} {:?}", self.client.session, self.agent.session);
    }
}

fn attach(session: &Session, attempt: u32, resume: bool) -> Attach {
    let (received, limit) = session.offsets();
    Attach {
        session: SessionId([1; 16]),
        secret: Secret([2; 16]),
        attempt,
        resume,
        received,
        limit,
        first: None,
    }
}

#[test]
fn what_goes_along_with_an_attach_has_a_limit() {
    let now = Instant::now();
    let mut client = End::new(Session::client(now));
    assert_eq!((client.session.room(), client.session.first()), (FirstBytes::MAX_BYTES, None));
    client.write(10_000, false);
    assert_eq!(client.session.room(), 0);
    let first = client.session.first();
    assert_eq!(first.as_ref().map(|first| first.as_slice().len()), Some(FirstBytes::MAX_BYTES));
    let mut agent = Session::agent();
    let attached = agent.accept(&Attach { first, ..attach(&client.session, 1, false) }, now).unwrap();
    assert_eq!((attached.received, agent.unread_bytes()), (255, 255));
}

/// An agent that does not know of it says that it has nothing, and gets it again.
#[test]
fn what_an_older_agent_passes_over_is_sent_again() {
    let now = Instant::now();
    let mut pair = Pair::new();
    let mut client = End::new(Session::client(now));
    client.write(21, false);
    assert!(client.session.first().is_some());
    pair.client = client;
    let attach = Attach { first: None, ..pair.first_attach() };
    pair.join(&attach);
    pair.settle();
    assert_eq!(pair.agent.read, 21);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_side_reads_exactly_what_the_other_wrote(
        in_vain in prop::collection::vec((0usize..300, any::<bool>()), 0..3),
        steps in steps(),
    ) {
        let mut pair = Pair::after(&in_vain);
        for step in &steps {
            pair.step(step);
        }
        pair.settle();
        prop_assert_eq!(pair.agent.read, pair.client.written);
        prop_assert_eq!(pair.client.read, pair.agent.written);
        prop_assert!(pair.client.session.is_at_end() && pair.agent.session.is_at_end());
    }

    #[test]
    fn stream_cut_at_every_byte_of_a_frame_loses_nothing(cut in 0usize..400) {
        let mut pair = Pair::new();
        pair.client.write(100, false);
        pair.carry(true, 30);
        pair.client.write(200, true);
        pair.client.finish();
        pair.carry(true, cut);
        pair.step(&Step::Break);
        pair.settle();
        prop_assert_eq!(pair.agent.read, 300);
    }
}

#[test]
fn slow_reader_stops_the_writer_at_the_window_and_answers_all_the_same() {
    let mut pair = Pair::new();
    while pair.client.session.room() > 0 {
        pair.client.write(usize::MAX, false);
        pair.carry(true, usize::MAX);
    }
    assert_eq!(pair.client.written, WINDOW_BYTES);
    pair.step(&Step::Wait { ms: 200 });
    assert!(pair.carry(false, usize::MAX) > 0, "an acknowledgement");
    assert_eq!(pair.client.session.room(), 0, "acknowledged, and still no room");
    // Nothing is owed, so the client asks when it is idle, and is answered.
    pair.step(&Step::Wait { ms: 3_000 });
    assert!(pair.carry(true, usize::MAX) > 0, "a ping");
    assert!(pair.carry(false, usize::MAX) > 0, "a pong");
    pair.agent.read(usize::MAX);
    pair.settle();
    assert_eq!(pair.agent.read, WINDOW_BYTES);
}

/// Whoever is over has let go of its stream, and could not say anything more.
#[test]
fn session_that_is_over_stays_so_while_its_end_is_read() {
    let mut pair = Pair::new();
    pair.client.finish();
    pair.agent.write(3_000_000, false);
    pair.agent.finish();
    for to_agent in [true, false, true] {
        pair.carry(to_agent, usize::MAX);
    }
    assert!(pair.client.session.is_over() && pair.agent.session.is_over());
    while pair.client.read(100_000) > 0 {
        assert!(pair.client.session.is_over(), "after {} bytes", pair.client.read);
    }
    assert_eq!(pair.client.read, 3_000_000);
}

#[test]
fn breaks_do_not_let_a_writer_beyond_the_window() {
    let mut pair = Pair::new();
    for _ in 0..5 {
        pair.client.write(usize::MAX, false);
        pair.carry(true, usize::MAX);
        pair.step(&Step::Break);
    }
    assert_eq!(pair.client.written, WINDOW_BYTES);
}

#[test]
fn one_end_that_is_not_answered_suspects_and_takes_it_back() {
    let mut pair = Pair::new();
    pair.client.write(1, false);
    while pair.client.session.poll_transmit(pair.now).is_some() {}
    pair.now += Watch::SUSPICION;
    pair.client.session.handle_timeout(pair.now);
    assert_eq!(pair.client.session.next_event(), Some(SessionEvent::Suspected));
    pair.agent.write(1, false);
    pair.carry(false, usize::MAX);
    assert_eq!(pair.client.session.next_event(), Some(SessionEvent::Answered));
    pair.step(&Step::Wait { ms: 150 });
    pair.carry(false, usize::MAX);
    assert_eq!(pair.agent.session.poll_timeout(), None, "an agent does not watch");
}

#[test]
fn what_was_sent_last_gets_something_behind_it() {
    let mut pair = Pair::new();
    while pair.client.session.poll_transmit(pair.now).is_some() {}
    for finishes in [false, true] {
        if finishes {
            pair.client.finish();
        } else {
            pair.client.write(1, false);
        }
        assert!(pair.client.session.poll_transmit(pair.now).is_some());
        assert_eq!(pair.client.session.poll_transmit(pair.now), None);
        let due = pair.client.session.poll_timeout().unwrap();
        assert!(due > pair.now && due < pair.now + Duration::from_millis(20));
        pair.client.session.handle_timeout(pair.now);
        assert_eq!(pair.client.session.poll_transmit(pair.now), None, "too early");
        pair.now = due;
        pair.client.session.handle_timeout(due);
        let behind = pair.client.session.poll_transmit(due).unwrap();
        assert_eq!(behind[0], 0x36, "an Ack");
        assert_eq!(pair.client.session.poll_transmit(due), None);
        assert!(pair.client.session.poll_timeout().unwrap() > due + Duration::from_secs(1), "once");
    }
}

#[test]
fn offset_that_the_peer_cannot_have_is_refused_and_changes_nothing() {
    let mut pair = Pair::new();
    pair.client.write(1000, false);
    pair.carry(true, 500);
    pair.step(&Step::Wait { ms: 200 });
    pair.carry(false, usize::MAX);
    for received in [0, 1001, u64::MAX] {
        let attached = Attached { received, limit: u64::MAX, start: 0 };
        let refused = pair.client.session.attach(&attached, pair.now);
        assert!(matches!(refused, Err(SessionError::WrongOffset { .. })), "{received}");
    }
    let attached = Attached { received: 1000, limit: u64::MAX, start: 1 };
    let refused = pair.client.session.attach(&attached, pair.now);
    assert_eq!(refused, Err(SessionError::Gap { start: 1, received: 0 }));
    let mut attach = pair.attach_again();
    attach.received = 1;
    assert!(matches!(pair.agent.session.accept(&attach, pair.now), Err(SessionError::WrongOffset { .. })));
    pair.settle();
    assert_eq!(pair.agent.read, 1000);
}

#[test]
fn frame_beyond_the_limit_ends_the_session() {
    let mut pair = Pair::new();
    let frame = |len: usize| {
        let mut wire = vec![0x34, 0x80, 0x01, 0, 0];
        wire.truncate(5);
        wire[2] = u8::try_from(len >> 16).unwrap();
        wire[3] = u8::try_from(len >> 8 & 0xff).unwrap();
        wire[4] = u8::try_from(len & 0xff).unwrap();
        wire.resize(5 + len, 0);
        Bytes::from(wire)
    };
    for _ in 0..WINDOW_BYTES / 65_536 {
        pair.agent.session.handle_chunk(frame(65_536), pair.now).unwrap();
    }
    assert_eq!(pair.agent.session.handle_chunk(frame(1), pair.now), Err(SessionError::BeyondLimit));
    assert!(pair.agent.session.is_over() && !pair.agent.session.is_readable());
}

#[test]
fn tiny_frames_cost_no_more_than_large_ones() {
    let mut pair = Pair::new();
    let tiny = Bytes::from_static(&[0x34, 1, 7]);
    for _ in 0..20_000 {
        pair.agent.session.handle_chunk(tiny.clone(), pair.now).unwrap();
    }
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(piece) = pair.agent.session.read() {
        pieces += 1;
        bytes += piece.len();
    }
    assert_eq!(bytes, 20_000);
    assert!(pieces <= 4097, "{pieces} pieces");
}

#[test]
fn reset_reaches_the_peer_with_its_words_and_nothing_else() {
    use converge_proto::rendezvous::RefusalCode;
    let mut pair = Pair::new();
    pair.client.write(10, false);
    pair.carry(true, usize::MAX);
    pair.client.session.reset(RefusalCode::STOPPING, "the job is over");
    assert!(!pair.client.session.is_over(), "not before it was said");
    // An acknowledgement of what the client has dropped by now.
    pair.step(&Step::Wait { ms: 200 });
    assert!(pair.carry(false, usize::MAX) > 0);
    assert!(!pair.client.session.is_over(), "still not said");
    let wire = pair.client.session.poll_transmit(pair.now).unwrap();
    assert_eq!(pair.client.session.poll_transmit(pair.now), None);
    assert!(pair.client.session.is_over());
    let error = pair.agent.session.handle_chunk(wire, pair.now).unwrap_err();
    assert_eq!(error.to_string(), "the job is over");
    assert!(pair.agent.session.is_over());
}

//! Sessions over real streams: bytes that arrive exactly whatever happens below, and ends that are heard of.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use bytes::Bytes;
use common::{Ends, Noise, Wire, assert_same, soon};
use converge_proto::{
    Frame, FrameType, VarInt,
    rendezvous::{Message, RefusalCode, messages::Line},
    session::{
        Ack, Attach, Attached, FirstBytes, Notice, Secret, SessionError, SessionEvent, SessionId, Severity,
        WINDOW_BYTES, Watch,
    },
};
use converge_transport::{Attachment, SessionIo, SessionLink, Stream, StreamError, copy_session};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::watch,
    task::JoinHandle,
};

const MIB: usize = 1024 * 1024;

macro_rules! on_every_wire {
    ($($body:ident),* $(,)?) => {
        on_each_wire! {
            quic Quic: [$($body),*]
            agents_websocket AgentsWebSocket: [$($body),*]
            clients_websocket ClientsWebSocket: [$($body),*]
        }
    };
}

on_every_wire! {
    bytes_are_exact_over_streams_that_are_cut_again_and_again,
    bytes_are_exact_when_they_are_copied,
    end_of_one_direction_is_seen_while_the_other_goes_on,
    what_was_written_and_finished_without_a_stream_arrives_over_the_next,
    reader_that_does_not_read_stops_the_writer_at_the_window,
    writer_without_a_stream_stops_at_the_window,
    application_that_leaves_does_not_stop_its_peer,
    reset_reaches_the_other_end_in_words,
    reset_without_a_stream_is_said_on_the_next,
    notice_reaches_the_client,
    garbage_ends_the_session_in_words,
    stream_that_ends_too_early_is_lost_and_not_the_session,
    silent_peer_is_suspected_until_it_answers,
    peer_that_takes_nothing_is_suspected_when_in_doubt,
}

/// Both ends of one session, as their owners see them.
struct Pair {
    wire: Wire,
    client: SessionLink,
    agent: SessionLink,
    attempt: u32,
}

/// A session that is not attached, and its applications' sides: client's, then agent's.
fn pair(wire: Wire) -> (Pair, SessionIo, SessionIo) {
    let (client_io, client) = SessionLink::client();
    let (agent_io, agent) = SessionLink::agent();
    (Pair { wire, client, agent, attempt: 0 }, client_io, agent_io)
}

fn attach(session: &SessionLink, attempt: u32) -> Attach {
    let first = (attempt == 0).then(|| session.first()).flatten();
    let (received, limit) = session.offsets();
    let (id, secret) = (SessionId([1; 16]), Secret([2; 16]));
    Attach { session: id, secret, attempt, resume: attempt > 0, received, limit, first }
}

/// A stream that both ends are driving.
struct Path {
    client: JoinHandle<Result<(), StreamError>>,
    agent: JoinHandle<Result<(), StreamError>>,
    _ends: Ends,
}

impl Pair {
    /// Attaches the session to a new stream on a link of its own.
    async fn attach(&mut self) -> Path {
        let ends = Ends::of(self.wire).await;
        let (mut near, mut far) = ends.stream().await;
        near.send.write_frame(&attach(&self.client, self.attempt).to_frame()).await.unwrap();
        self.attempt += 1;
        let asked: Attach = read(&mut far).await;
        let (attached, agents) = self.agent.accept(&asked).unwrap();
        far.send.write_frame(&attached.to_frame()).await.unwrap();
        let clients = self.client.attach(&read(&mut near).await).unwrap();
        Path { client: drive(clients, near), agent: drive(agents, far), _ends: ends }
    }

    async fn over(&self) {
        soon("the end at both ends", async { tokio::join!(self.client.over(), self.agent.over()) }).await;
    }
}

async fn read<M: Message>(stream: &mut Stream) -> M {
    M::from_frame(&soon("a frame", stream.recv.read_frame()).await.unwrap().unwrap()).unwrap()
}

fn drive(attachment: Attachment, mut stream: Stream) -> JoinHandle<Result<(), StreamError>> {
    tokio::spawn(async move {
        let end = attachment.drive(&mut stream).await;
        if end.is_ok() {
            stream.close().await;
        }
        end
    })
}

impl Path {
    /// The client's end vanishes without a word to the session, and the other end notices.
    async fn cut(self) {
        self.client.abort();
        // What the task held is gone when it has ended.
        assert!(self.client.await.unwrap_err().is_cancelled());
        soon("the loss of the stream", self.agent).await.unwrap().unwrap_err();
    }

    /// Both ends let go of it because the session is over.
    async fn ends_in_peace(self) {
        let ended = soon("the end of both drivers", async { tokio::join!(self.client, self.agent) }).await;
        ended.0.unwrap().unwrap();
        ended.1.unwrap().unwrap();
    }
}

/// What an application has read, and how much of it by now.
struct Heard {
    bytes: Vec<u8>,
    count: watch::Sender<usize>,
}

impl Heard {
    fn new() -> (Self, watch::Receiver<usize>) {
        let (count, counted) = watch::channel(0);
        (Self { bytes: Vec::new(), count }, counted)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bytes.extend_from_slice(bytes);
        let count = self.bytes.len();
        self.count.send_replace(count);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says all of it, ends when it may, and hears everything. Returns what was heard, and the session's side, which is
/// still open.
fn talk(
    io: SessionIo,
    said: Bytes,
    mut heard: Heard,
    mut may_end: watch::Receiver<bool>,
) -> JoinHandle<(Vec<u8>, SessionIo)> {
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(io);
        let saying = async {
            to.write_all(&said).await.unwrap();
            may_end.wait_for(|may_end| *may_end).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let hearing = async { tokio::io::copy(&mut from, &mut heard).await.unwrap() };
        tokio::join!(saying, hearing);
        (heard.bytes, from.unsplit(to))
    })
}

async fn bytes_are_exact_over_streams_that_are_cut_again_and_again(ends: Ends) {
    let (mut pair, client_io, agent_io) = pair(ends.wire);
    let (up, down) = (Noise::new(1).bytes(20 * MIB), Noise::new(2).bytes(16 * MIB));
    let (heard_down, mut down_so_far) = Heard::new();
    let (heard_up, mut up_so_far) = Heard::new();
    // A session that is over cannot be cut any more.
    let (may_end, wait_to_end) = watch::channel(false);
    let client = talk(client_io, up.clone(), heard_down, wait_to_end.clone());
    let agent = talk(agent_io, down.clone(), heard_up, wait_to_end);
    let mut noise = Noise::new(3);
    let mut cuts = 0;
    let last = loop {
        let path = pair.attach().await;
        // Cut at a random place, in the middle of both directions.
        let wanted_down = *down_so_far.borrow() + noise.up_to(3 * MIB);
        let wanted_up = *up_so_far.borrow() + noise.up_to(3 * MIB);
        if wanted_down > down.len() || wanted_up > up.len() {
            break path;
        }
        soon("more bytes at the client", down_so_far.wait_for(|so_far| *so_far >= wanted_down))
            .await
            .unwrap();
        soon("more bytes at the agent", up_so_far.wait_for(|so_far| *so_far >= wanted_up)).await.unwrap();
        path.cut().await;
        cuts += 1;
    };
    assert!(cuts >= 3, "{cuts} cuts are few");
    may_end.send_replace(true);
    let (client, agent) = soon("all of it", async { tokio::join!(client, agent) }).await;
    assert_same(&client.unwrap().0, &down);
    assert_same(&agent.unwrap().0, &up);
    pair.over().await;
    last.ends_in_peace().await;
    assert_eq!((pair.client.error(), pair.agent.error()), (None, None));
}

async fn bytes_are_exact_when_they_are_copied(ends: Ends) {
    let (mut pair, client_io, agent_io) = pair(ends.wire);
    let path = pair.attach().await;
    let sent = Noise::new(4).bytes(9 * MIB);
    let input = sent.clone();
    let (mut heard_up, _) = Heard::new();
    let (mut heard_down, _) = Heard::new();
    let clients = async {
        copy_session(&client_io, &mut &input[..], &mut heard_down).await.unwrap();
    };
    let agents = async {
        // The other end goes on until this one ends, and not until its own input does.
        let (mut silence, _held) = tokio::io::duplex(1);
        copy_session(&agent_io, &mut silence, &mut heard_up).await.unwrap();
        agent_io.finish();
    };
    soon("all of it", async { tokio::join!(clients, agents) }).await;
    assert_same(&heard_up.bytes, &sent);
    assert_same(&heard_down.bytes, b"");
    pair.over().await;
    path.ends_in_peace().await;
}

/// Reads to the end.
async fn read_all(io: &SessionIo) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = soon("more bytes", io.read_chunk()).await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

async fn end_of_one_direction_is_seen_while_the_other_goes_on(ends: Ends) {
    let (mut pair, mut client_io, mut agent_io) = pair(ends.wire);
    let path = pair.attach().await;
    client_io.write_all(b"question").await.unwrap();
    client_io.finish();
    assert_eq!(read_all(&agent_io).await, b"question");
    assert!(pair.agent.is_at_end() && !pair.agent.is_over());
    let answer = Noise::new(6).bytes(6 * MIB);
    let answering = async {
        agent_io.write_all(&answer).await.unwrap();
        agent_io.finish();
    };
    let ((), heard) = tokio::join!(answering, read_all(&client_io));
    assert_same(&heard, &answer);
    assert_eq!(client_io.read_chunk().await, Ok(None), "the end stays the end");
    pair.over().await;
    path.ends_in_peace().await;
}

async fn what_was_written_and_finished_without_a_stream_arrives_over_the_next(ends: Ends) {
    let (mut pair, mut client_io, mut agent_io) = pair(ends.wire);
    pair.attach().await.cut().await;
    let (up, down) = (Noise::new(7).bytes(MIB), Noise::new(8).bytes(MIB));
    for (io, bytes) in [(&mut client_io, &up), (&mut agent_io, &down)] {
        soon("room in the window", io.write_all(bytes)).await.unwrap();
        io.finish();
    }
    let path = pair.attach().await;
    assert_same(&read_all(&agent_io).await, &up);
    assert_same(&read_all(&client_io).await, &down);
    pair.over().await;
    path.ends_in_peace().await;
}

/// Writes until there is no room, and says how much that was. All of it is repeated bytes of the offset.
async fn fill(io: &mut SessionIo) -> usize {
    let block = [7; 10_000];
    let mut filled = 0;
    loop {
        let written = tokio::select! {
            biased;
            written = io.write(&block) => written.unwrap(),
            // Nothing happens by itself while there is no stream, or nobody reads.
            () = std::future::ready(()) => return filled,
        };
        filled += written;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn reader_that_does_not_read_stops_the_writer_at_the_window(ends: Ends) {
    let (mut pair, mut client_io, agent_io) = pair(ends.wire);
    let path = pair.attach().await;
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let sent = Noise::new(9).bytes(2 * window + 12_345);
    let (accepted, mut counted) = watch::channel(0);
    let left = sent.clone();
    let writing = tokio::spawn(async move {
        for chunk in left.chunks(30_000) {
            client_io.write_all(chunk).await.unwrap();
            accepted.send_modify(|accepted| *accepted += chunk.len());
        }
        client_io.finish();
        client_io
    });
    until("a full window", || pair.agent.offsets().0 == WINDOW_BYTES).await;
    // Everything in it has arrived, so the writer has had every chance to go on.
    until("the acknowledgement of it", || !pair.client.is_unacked()).await;
    let accepted = *counted.borrow_and_update();
    assert!(accepted <= window && accepted + 30_000 > window, "{accepted} bytes were taken");
    assert!(!writing.is_finished());

    assert_same(&read_all(&agent_io).await, &sent);
    agent_io.finish();
    let client_io = soon("the writer", writing).await.unwrap();
    assert_eq!(read_all(&client_io).await, b"");
    pair.over().await;
    path.ends_in_peace().await;
}

async fn writer_without_a_stream_stops_at_the_window(ends: Ends) {
    let (mut pair, mut client_io, agent_io) = pair(ends.wire);
    let first = fill(&mut client_io).await;
    assert_eq!(first, FirstBytes::MAX_BYTES, "nobody knows yet what the agent allows");
    pair.attach().await.cut().await;
    let filled = first + fill(&mut client_io).await;
    assert_eq!(filled as u64, WINDOW_BYTES);
    pair.attach().await.cut().await;
    let path = pair.attach().await;
    client_io.finish();
    assert_same(&read_all(&agent_io).await, &vec![7; filled]);
    drop(path);
}

async fn application_that_leaves_does_not_stop_its_peer(ends: Ends) {
    let (mut pair, mut client_io, mut agent_io) = pair(ends.wire);
    let path = pair.attach().await;
    agent_io.write_all(b"last words").await.unwrap();
    drop(agent_io);
    let sent = Noise::new(10).bytes(10 * MIB);
    // More than the window, and nobody reads it.
    soon("the writer", client_io.write_all(&sent)).await.unwrap();
    client_io.finish();
    assert_eq!(read_all(&client_io).await, b"last words");
    pair.over().await;
    path.ends_in_peace().await;
}

async fn reset_reaches_the_other_end_in_words(ends: Ends) {
    let (mut pair, client_io, agent_io) = pair(ends.wire);
    let path = pair.attach().await;
    pair.agent.reset(RefusalCode::LIMIT, "enough is enough");
    let by_peer = SessionError::ResetByPeer { code: RefusalCode::LIMIT, text: Line::new("enough is enough") };
    assert_eq!(soon("the end", client_io.read_chunk()).await, Err(by_peer.clone()));
    assert_eq!(by_peer.to_string(), "enough is enough");
    assert_eq!(client_io.room().await, Err(by_peer));
    let here = SessionError::ResetHere { text: Line::new("enough is enough") };
    assert_eq!(soon("the end", agent_io.read_chunk()).await, Err(here.clone()));
    assert_eq!(pair.agent.error(), Some(here));
    pair.over().await;
    path.ends_in_peace().await;
}

async fn reset_without_a_stream_is_said_on_the_next(ends: Ends) {
    let (mut pair, client_io, _agent_io) = pair(ends.wire);
    pair.attach().await.cut().await;
    pair.agent.reset(RefusalCode::EXPIRED, "too late");
    assert!(!pair.agent.is_over(), "the client has not heard of it");
    let path = pair.attach().await;
    let error = soon("the end", client_io.read_chunk()).await.unwrap_err();
    assert_eq!(error, SessionError::ResetByPeer { code: RefusalCode::EXPIRED, text: Line::new("too late") });
    pair.over().await;
    path.ends_in_peace().await;
}

async fn notice_reaches_the_client(ends: Ends) {
    let (mut pair, _client_io, _agent_io) = pair(ends.wire);
    let notice = |text: &str| Notice {
        severity: Severity::Warning,
        text: Line::new(text),
        remaining_ms: Some(60_000),
    };
    pair.agent.notify(notice("before there is a stream"));
    let _path = pair.attach().await;
    let event = soon("a notice", pair.client.next_event()).await;
    assert_eq!(event, SessionEvent::Notice(notice("before there is a stream")));
    pair.agent.notify(notice("one minute left"));
    let event = soon("a notice", pair.client.next_event()).await;
    assert_eq!(event, SessionEvent::Notice(notice("one minute left")));
}

/// A session's client whose agent is played by the test, which has the other end of the stream.
async fn client_of_a_hand_written_agent(ends: &Ends) -> (SessionIo, SessionLink, Attachment, Stream, Stream) {
    let (io, client) = SessionLink::client();
    let attachment = client.attach(&Attached { received: 0, limit: WINDOW_BYTES, start: 0 }).unwrap();
    let (near, far) = ends.stream().await;
    (io, client, attachment, near, far)
}

async fn garbage_ends_the_session_in_words(ends: Ends) {
    let unknown = Frame { frame_type: FrameType(VarInt::from_u32(0x3e)), payload: Bytes::new() };
    let cases = [
        (unknown.to_bytes(), "frame 0x3e is not supported"),
        (Ack { received: 99, limit: 0 }.to_frame().to_bytes(), "the peer says it has 99 bytes"),
        (attach(&SessionLink::client().1, 1).to_frame().to_bytes(), "Attach is not allowed here"),
        (Bytes::from_static(b"\x36\x02\xff\xff"), "Ack cannot be read"),
        (Bytes::from_static(b"\x38\x00\x34\x01x"), "bytes behind the end"),
    ];
    for (garbage, words) in cases {
        let ends = Ends::of(ends.wire).await;
        let (io, client, attachment, near, mut far) = client_of_a_hand_written_agent(&ends).await;
        let driving = drive(attachment, near);
        far.send.write_chunk(garbage).await.unwrap();
        far.send.flush().await.unwrap();
        soon("the end", client.over()).await;
        let error = client.error().unwrap().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(io.room().await.unwrap_err().to_string(), error);
        soon("the driver", driving).await.unwrap().unwrap();
    }
}

async fn stream_that_ends_too_early_is_lost_and_not_the_session(ends: Ends) {
    let (_io, client, attachment, near, mut far) = client_of_a_hand_written_agent(&ends).await;
    let driving = drive(attachment, near);
    far.send.finish().await.unwrap();
    let error = soon("the driver", driving).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("ended before the session"), "{error}");
    assert!(client.error().is_none() && !client.is_over());
}

async fn silent_peer_is_suspected_until_it_answers(ends: Ends) {
    let (mut io, client, attachment, near, mut far) = client_of_a_hand_written_agent(&ends).await;
    let _driving = drive(attachment, near);
    io.write_all(b"x").await.unwrap();
    assert_eq!(soon("suspicion", client.next_event()).await, SessionEvent::Suspected);
    assert!(client.is_suspected() && client.is_unacked());
    far.send.write_frame(&Ack { received: 1, limit: WINDOW_BYTES }.to_frame()).await.unwrap();
    assert_eq!(soon("an answer", client.next_event()).await, SessionEvent::Answered);
    assert!(!client.is_suspected() && !client.is_unacked());
}

/// Time passes for a session whose stream takes nothing, and whoever doubts it need not wait for the next question.
async fn peer_that_takes_nothing_is_suspected_when_in_doubt(ends: Ends) {
    let (_io, client, attachment, mut near, far) = client_of_a_hand_written_agent(&ends).await;
    // Fills everything between the two first, so that the session's first frame does not even leave. That nothing more
    // is taken shows in nothing but time; were it too short, suspicion would come all the same.
    let block = Bytes::from(vec![0; 64 * 1024]);
    let short = Duration::from_millis(200);
    while tokio::time::timeout(short, near.send.write_chunk(block.clone())).await.is_ok() {}
    let _driving = drive(attachment, near);
    // The driver is in the middle of its first frame by then, or sees the doubt before it.
    tokio::task::yield_now().await;
    client.doubt();
    let event = tokio::time::timeout(Watch::IDLE, client.next_event()).await;
    assert_eq!(event, Ok(SessionEvent::Suspected), "the usual question would come too late");
    drop(far);
}

/// The time is virtual and there are no sockets.
#[tokio::test(start_paused = true)]
async fn session_is_abandoned_after_so_long_without_a_stream_at_a_stretch() {
    const MINUTE: Duration = Duration::from_mins(1);
    let (_io, session) = SessionLink::agent();
    let (_client_io, client) = SessionLink::client();
    let begun = tokio::time::Instant::now();
    let waiting = tokio::spawn({
        let session = session.clone();
        async move {
            session.abandoned(10 * MINUTE).await;
            begun.elapsed()
        }
    });
    for attempt in 0..3 {
        tokio::time::sleep(9 * MINUTE).await;
        let (_, attachment) = session.accept(&attach(&client, attempt)).unwrap();
        // However long it has a stream.
        tokio::time::sleep(30 * MINUTE).await;
        assert!(!waiting.is_finished());
        drop(attachment);
    }
    let waited = waiting.await.unwrap();
    assert!(waited >= 127 * MINUTE && waited < 127 * MINUTE + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn dropped_attachment_detaches_at_once() {
    let (_io, session) = SessionLink::agent();
    let (_client_io, client) = SessionLink::client();
    let (_, attachment) = session.accept(&attach(&client, 0)).unwrap();
    let abandoned = session.abandoned(Duration::ZERO);
    tokio::pin!(abandoned);
    let at_once = std::future::poll_fn(|cx| Poll::Ready(abandoned.as_mut().poll(cx).is_ready())).await;
    assert!(!at_once, "it has a stream");
    drop(attachment);
    soon("the end of the attachment", abandoned).await;
}

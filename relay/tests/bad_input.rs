//! Peers that talk nonsense, too much, or not at all: told in words, cut off, and felt by nobody else.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use bytes::{Bytes, BytesMut};
use common::{
    By, TestRelay, a_relay,
    agent::TestAgent,
    client::{TestSession, read_some, send_some},
    closed_with, soon,
};
use converge_proto::{
    Frame, FrameType, VarInt,
    rendezvous::{Message, Ping, RefusalCode, Refused},
};
use converge_transport::{CloseCode, Role, Stream};
use std::time::Duration;
use tokio::{io::AsyncReadExt, net::TcpStream};

on_each_carrier! {
    first_frame_that_is_none_of_ours_is_refused,
    known_frame_at_the_wrong_time_is_refused,
    garbled_registration_is_refused,
    frame_that_announces_too_much_is_refused_at_once,
    unknown_odd_frames_are_skipped,
    garbage_after_the_registration_closes_the_link_in_words_and_no_other,
    unanswered_challenge_closes_the_link,
    link_that_says_nothing_is_closed,
    stream_that_says_nothing_is_refused,
    connect_that_never_gets_whole_is_refused,
}

const SHORT: Duration = Duration::from_millis(200);

fn frame(number: u32, payload: &'static [u8]) -> Bytes {
    Frame { frame_type: FrameType(VarInt::from_u32(number)), payload: Bytes::from_static(payload) }.to_bytes()
}

fn announcing(frame_type: FrameType, bytes: VarInt) -> Bytes {
    let mut header = BytesMut::new();
    frame_type.0.encode(&mut header);
    bytes.encode(&mut header);
    header.freeze()
}

async fn send(stream: &mut Stream, bytes: Bytes) {
    stream.send.write_chunk(bytes).await.unwrap();
    stream.send.flush().await.unwrap();
}

async fn refusal(stream: &mut Stream) -> (RefusalCode, String) {
    let frame = soon("a refusal", stream.recv.read_frame()).await.unwrap().unwrap();
    let Refused { code, text } = Refused::from_frame(&frame).unwrap();
    assert_eq!(soon("the end", stream.recv.read_chunk()).await, Ok(None), "a refusal is the last word");
    (code, text.to_string())
}

/// What the relay answers to these first bytes, from an agent's link and from a client's.
async fn refusals_of(by: By, bytes: Bytes) -> (RefusalCode, String) {
    let relay = a_relay().start();
    let agents = relay.link(by, Role::Agent).await;
    let mut stream = agents.open_stream().await.unwrap();
    send(&mut stream, bytes.clone()).await;
    let from_agent = refusal(&mut stream).await;
    let from_client = refusal(&mut relay.a_client_of("build", by).await.say(&bytes).await.stream).await;
    assert_eq!(from_agent, from_client);
    relay.stop().await;
    from_client
}

async fn first_frame_that_is_none_of_ours_is_refused(by: By) {
    let refused = refusals_of(by, frame(0x3e, b"??")).await;
    assert_eq!(refused, (RefusalCode::UNSUPPORTED, "frame 0x3e is not supported".to_owned()));
}

async fn known_frame_at_the_wrong_time_is_refused(by: By) {
    let refused = refusals_of(by, Ping { token: 1 }.to_frame().to_bytes()).await;
    let words = "Ping is not allowed here; expected Connect, Lookup or Register";
    assert_eq!(refused, (RefusalCode::PROTOCOL_VIOLATION, words.to_owned()));
}

async fn frame_that_announces_too_much_is_refused_at_once(by: By) {
    for frame_type in [FrameType::REGISTER, FrameType::CONNECT] {
        let refused = refusals_of(by, announcing(frame_type, VarInt::MAX)).await;
        let words = format!("{frame_type} announces {} bytes; at most 65536 are allowed", VarInt::MAX.get());
        assert_eq!(refused, (RefusalCode::PROTOCOL_VIOLATION, words));
    }
}

async fn garbled_registration_is_refused(by: By) {
    let relay = a_relay().start();
    let link = relay.link(by, Role::Agent).await;
    let mut control = link.open_stream().await.unwrap();
    send(&mut control, frame(0x02, b"\xff\xff\xff")).await;
    let (code, words) = refusal(&mut control).await;
    assert_eq!(code, RefusalCode::PROTOCOL_VIOLATION);
    assert!(words.starts_with("Register cannot be read: "), "{words}");
    let closed = closed_with(soon("the close", link.closed()).await);
    assert_eq!(closed, (CloseCode::PROTOCOL_VIOLATION, words));
    relay.stop().await;
}

async fn unknown_odd_frames_are_skipped(by: By) {
    let relay = a_relay().start();
    let mut agent = relay.an_agent(by).register().await;
    send(&mut agent.control, frame(0x3f, b"a new feature")).await;
    agent.ping().await;

    let client = relay.a_client_of("build", by).await;
    let connect = client.raw_connect(Duration::ZERO);
    let mut bytes = BytesMut::from(&frame(0x3f, b"a new feature")[..]);
    connect.to_frame().encode(&mut bytes);
    let mut asked = client.say(&bytes).await;
    assert!(matches!(asked.answer().await, common::client::Answer::Connected(_)));
    relay.stop().await;
}

/// An agent with a session that must not notice anything.
struct Bystander {
    agent: TestAgent,
    client: TestSession,
    stream: Stream,
}

impl Bystander {
    async fn of(relay: &TestRelay, by: By) -> Self {
        let agent = relay.an_agent(by).with_key(9).wanting("bystander").register().await;
        let client = relay.connect("bystander", by).await.unwrap();
        let (_, stream) = agent.next_session().await;
        Self { agent, client, stream }
    }

    async fn notices_nothing(&mut self) {
        send_some(&mut self.client.stream, b"ping").await;
        assert_eq!(read_some(&mut self.stream, 4).await, b"ping");
        send_some(&mut self.stream, b"pong").await;
        assert_eq!(read_some(&mut self.client.stream, 4).await, b"pong");
        self.agent.ping().await;
    }
}

async fn garbage_after_the_registration_closes_the_link_in_words_and_no_other(by: By) {
    let relay = a_relay().start();
    let mut bystander = Bystander::of(&relay, by).await;
    let cases = [
        (frame(0x3e, b""), "frame 0x3e is not supported"),
        (frame(0x02, b""), "Register is not allowed here; expected Ping, Pong, Status, Response or Bye"),
        (frame(0x20, b"\xa0junk"), "Ping cannot be read: "),
        (announcing(FrameType::PING, VarInt::MAX), "Ping announces 4611686018427387903 bytes; at most 65536"),
    ];
    for (garbage, words) in cases {
        let mut agent = relay.an_agent(by).register().await;
        send(&mut agent.control, garbage).await;
        let (code, reason) = closed_with(soon("the close", agent.link.closed()).await);
        assert_eq!(code, CloseCode::PROTOCOL_VIOLATION);
        assert!(reason.starts_with(words), "{reason}");
        bystander.notices_nothing().await;
    }
    // Half a frame, and an end.
    for half in [Bytes::from_static(b"\x20"), Bytes::new()] {
        let mut agent = relay.an_agent(by).register().await;
        send(&mut agent.control, half).await;
        agent.control.send.finish().await.unwrap();
        let (code, reason) = closed_with(soon("the close", agent.link.closed()).await);
        assert_eq!(code, CloseCode::PROTOCOL_VIOLATION);
        assert!(reason.contains("ended"), "{reason}");
        bystander.notices_nothing().await;
    }
    relay.stop().await;
}

async fn unanswered_challenge_closes_the_link(_: By) {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    let (link, mut control) = relay.an_agent(By::Cleartext).begin().await;
    let challenge = soon("a challenge", control.recv.read_frame()).await.unwrap().unwrap();
    assert_eq!(challenge.frame_type, FrameType::CHALLENGE);
    let closed = closed_with(soon("the close", link.closed()).await);
    assert_eq!(closed, (CloseCode::SILENT, "the registration was not finished in time".to_owned()));
    relay.stop().await;
}

async fn link_that_says_nothing_is_closed(by: By) {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    let mut bystander = Bystander::of(&relay, by).await;
    let link = relay.link(by, Role::Agent).await;
    let closed = closed_with(soon("the close", link.closed()).await);
    assert_eq!(closed, (CloseCode::SILENT, "nothing was said".to_owned()));
    bystander.notices_nothing().await;
    relay.stop().await;
}

async fn stream_that_says_nothing_is_refused(by: By) {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    let client = relay.a_client_of("build", by).await;
    // A QUIC stream is only there once it has a byte.
    let mut asked = client.say(b"\x10").await;
    let expected = (RefusalCode::PROTOCOL_VIOLATION, "nothing was said in time".to_owned());
    assert_eq!(refusal(&mut asked.stream).await, expected);
    relay.stop().await;
}

async fn connect_that_never_gets_whole_is_refused(by: By) {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    let client = relay.a_client_of("build", by).await;
    let mut asked = client.say(&announcing(FrameType::CONNECT, VarInt::from_u32(100))).await;
    let expected = (RefusalCode::PROTOCOL_VIOLATION, "nothing was said in time".to_owned());
    assert_eq!(refusal(&mut asked.stream).await, expected);
    relay.stop().await;
}

#[tokio::test]
async fn tcp_connection_that_says_nothing_is_closed() {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    for address in [relay.listen, relay.http] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let mut heard = Vec::new();
        let _ = soon("the close", connection.read_to_end(&mut heard)).await;
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 408"), "{heard:?}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn websocket_that_says_nothing_is_refused_and_closed() {
    let relay = a_relay().with_first_word_timeout_of(SHORT).start();
    let client = relay.a_client_of("build", By::WebSocket).await;
    let mut stream = client.link.open_stream().await.unwrap();
    let expected = (RefusalCode::PROTOCOL_VIOLATION, "nothing was said in time".to_owned());
    assert_eq!(refusal(&mut stream).await, expected);
    relay.stop().await;
}

#[tokio::test]
async fn id_in_the_frame_must_be_that_of_the_websockets_url() {
    let relay = a_relay().start();
    let _agent = relay.an_agent(By::WebSocket).register().await;
    let mut client = relay.a_client_of("other", By::WebSocket).await;
    client.id = "build".parse().unwrap();
    let refused = client.connect().await.err().unwrap();
    assert_eq!(refused.code, RefusalCode::PROTOCOL_VIOLATION);
    assert!(refused.text.as_str().contains("not the one in the WebSocket's URL"), "{}", refused.text);
    relay.stop().await;
}

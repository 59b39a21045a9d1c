//! Starting and stopping: what a relay that cannot start says, and how one that stops lets its peers go.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, a_relay,
    client::{TestSession, read_all, read_some, send_some},
    closed_with, cut, noise, soon,
};
use converge_certs::Identity;
use converge_proto::rendezvous::RefusalCode;
use converge_relay::{BindError, Config, Relay, Stopped};
use converge_transport::{CloseCode, DialOptions, Role, Stream, StreamError, dial};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

on_each_carrier! {
    draining_relay_lets_sessions_end_in_peace,
    draining_relay_lets_go_of_sessions_that_can_go_on_elsewhere_and_of_no_others,
    relay_with_sessions_that_can_go_on_elsewhere_stops_at_once,
    draining_relay_refuses_what_is_new,
    newcomers_wait_for_the_next_relay_where_the_sockets_stay,
    waiting_client_hears_that_the_relay_is_stopping,
    sessions_are_cut_when_the_time_is_over_and_told_why,
    second_order_to_stop_does_not_wait,
    peers_that_say_nothing_do_not_hold_up_the_end,
    peers_that_read_nothing_do_not_hold_up_the_end,
    agent_is_told_when_the_relay_is_over,
}

fn config_for(address: std::net::SocketAddr) -> (Config, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
    (Config::new(address, identity), directory)
}

#[tokio::test]
async fn port_that_is_taken_is_named_with_its_transport() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (config, _directory) = config_for(address);
    let error = Relay::bind(config).err().unwrap();
    assert!(matches!(error, BindError::Bind { .. }), "{error}");
    let words = error.to_string();
    assert!(words.starts_with(&format!("cannot listen on {address} (tcp): ")), "{words}");

    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let (config, _directory) = config_for(address);
    let words = Relay::bind(config).err().unwrap().to_string();
    assert!(words.starts_with(&format!("cannot listen on {address} (udp): ")), "{words}");

    let (config, _directory) = config_for("127.0.0.1:0".parse().unwrap());
    let http = tcp.local_addr().unwrap();
    let words = Relay::bind(Config { http: Some(http), ..config }).err().unwrap().to_string();
    assert!(words.starts_with(&format!("cannot listen on {http} (tcp): ")), "{words}");
}

async fn draining_relay_lets_sessions_end_in_peace(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_mins(10)).start();
    let mut agent = relay.an_agent(by).register().await;
    let mut client = relay.connect("build", by).await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    relay.drain();
    assert_eq!(agent.goaway().await.reason.as_str(), "the relay is stopping");

    send_some(&mut client.stream, b"ping").await;
    assert_eq!(read_some(&mut stream, 4).await, b"ping");
    stream.send.finish().await.unwrap();
    assert_eq!(read_all(&mut client.stream).await.unwrap(), b"");
    client.stream.send.finish().await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"");
    tokio::join!(client.stream.close(), stream.close());
    assert_eq!(relay.stopped().await, Stopped::Clean);
}

/// What both ends of a session hear when the relay lets go of it.
async fn is_let_go(by: By, client: &mut TestSession, stream: &mut Stream) {
    let error = cut(soon("the end of the session", client.stream.recv.read_chunk()).await);
    if by == By::Quic {
        assert_eq!(error, StreamError::Reset(RefusalCode::STOPPING));
    } else {
        let words = "closed by the other side: the relay is stopping (the relay has stopped)";
        assert_eq!(error.to_string(), words);
    }
    let error = cut(soon("the end of the session", stream.recv.read_chunk()).await);
    assert_eq!(error, StreamError::Reset(RefusalCode::STOPPING));
}

async fn draining_relay_lets_go_of_sessions_that_can_go_on_elsewhere_and_of_no_others(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_mins(10)).start();
    let mut agent = relay.an_agent(by).register().await;
    let mut raw = relay.connect("build", by).await.unwrap();
    let (_, mut raw_stream) = agent.next_session().await;
    let mut resumable = relay.a_client_of("build", by).await.connect_resumable().await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    send_some(&mut resumable.stream, b"ping").await;
    assert_eq!(read_some(&mut stream, 4).await, b"ping");

    relay.drain();
    assert_eq!(agent.goaway().await.reason.as_str(), "the relay is stopping");
    is_let_go(by, &mut resumable, &mut stream).await;
    // The other one cannot go elsewhere.
    send_some(&mut raw.stream, b"ping").await;
    assert_eq!(read_some(&mut raw_stream, 4).await, b"ping");
    raw_stream.send.finish().await.unwrap();
    assert_eq!(read_all(&mut raw.stream).await.unwrap(), b"");
    raw.stream.send.finish().await.unwrap();
    assert_eq!(read_all(&mut raw_stream).await.unwrap(), b"");
    tokio::join!(raw.stream.close(), raw_stream.close());
    assert_eq!(relay.stopped().await, Stopped::Clean);
}

async fn relay_with_sessions_that_can_go_on_elsewhere_stops_at_once(by: By) {
    // Far beyond what is waited for here.
    let relay = a_relay().with_drain_timeout_of(Duration::from_mins(10)).start();
    let agent = relay.an_agent(by).register().await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let client = relay.a_client_of("build", by).await.connect_resumable().await.unwrap();
        sessions.push((client, agent.next_session().await.1));
    }
    relay.drain();
    for (client, stream) in &mut sessions {
        is_let_go(by, client, stream).await;
    }
    assert_eq!(relay.stopped().await, Stopped::Clean);
}

async fn draining_relay_refuses_what_is_new(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_mins(10)).start();
    let mut agent = relay.an_agent(by).register().await;
    let client = relay.a_client_of("build", By::Quic).await;
    let session = client.connect().await.unwrap();
    // A link from before, which registers only now.
    let late = relay.an_agent(by).with_key(2);
    let late_link = relay.link(by, Role::Agent).await;
    relay.drain();
    agent.goaway().await;

    let refused = client.connect().await.err().unwrap();
    assert_eq!(refused.code, RefusalCode::STOPPING);
    assert_eq!(refused.text.as_str(), "the relay is stopping; try again in a moment");
    // New connections get an answer at once, on both carriers.
    for url in [relay.url_by(By::Quic), relay.url_by(By::WebSocket)] {
        let error = soon("an answer", dial(&url, &DialOptions::default(), Role::Agent)).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
    drop((late, late_link));
    drop(session);
    relay.stop().await;
}

async fn newcomers_wait_for_the_next_relay_where_the_sockets_stay(by: By) {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    let relay = a_relay().on(&tcp, &udp).with_drain_timeout_of(Duration::from_mins(10)).start();
    let mut agent = relay.an_agent(by).register().await;
    let _client = relay.connect("build", by).await.unwrap();
    let _session = agent.next_session().await;
    relay.drain();
    agent.goaway().await;

    // The relay is still there, with a session, and takes nobody. One that refused would do so at once.
    let next = a_relay().on(&tcp, &udp);
    let url = relay.url_by(by).with_pin(Some(next.pin()));
    let mut newcomer = tokio::spawn(async move { dial(&url, &DialOptions::default(), Role::Agent).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut newcomer).await;
    assert!(early.is_err(), "{early:?}");
    relay.stop().await;
    let next = next.start();
    soon("the next relay", newcomer).await.unwrap().unwrap();
    next.stop().await;
}

async fn waiting_client_hears_that_the_relay_is_stopping(by: By) {
    let relay = a_relay().start();
    let client = relay.a_client_of("build", by).await;
    let mut asked = client.ask_to_connect(Duration::from_mins(1)).await;
    asked.answer().await;
    relay.drain();
    assert_eq!(asked.refusal().await.code, RefusalCode::STOPPING);
    asked.stream.close().await;
    assert_eq!(relay.stopped().await, Stopped::Clean);
}

async fn sessions_are_cut_when_the_time_is_over_and_told_why(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_millis(1)).start();
    let agent = relay.an_agent(by).register().await;
    let mut client = relay.connect("build", by).await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    send_some(&mut client.stream, b"ping").await;
    assert_eq!(read_some(&mut stream, 4).await, b"ping");
    relay.drain();
    let error = cut(soon("the end of the session", client.stream.recv.read_chunk()).await);
    if by == By::Quic {
        assert_eq!(error, StreamError::Reset(RefusalCode::STOPPING));
    } else {
        let words = "closed by the other side: the relay is stopping (the relay has stopped)";
        assert_eq!(error.to_string(), words);
    }
    cut(soon("the end of the session", stream.recv.read_chunk()).await);
    assert_eq!(relay.stopped().await, Stopped::SessionsCut);
}

async fn second_order_to_stop_does_not_wait(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_mins(10)).start();
    let agent = relay.an_agent(by).register().await;
    let session = relay.connect("build", by).await.unwrap();
    let taken = agent.next_session().await;
    relay.stop().await;
    drop((session, taken));
}

async fn agent_is_told_when_the_relay_is_over(by: By) {
    let relay = a_relay().start();
    let mut agent = relay.an_agent(by).register().await;
    relay.drain();
    agent.goaway().await;
    let closed = closed_with(soon("the close", agent.link.closed()).await);
    assert_eq!(closed, (CloseCode::STOPPING, String::new()));
    assert_eq!(relay.stopped().await, Stopped::Clean);
}

async fn peers_that_say_nothing_do_not_hold_up_the_end(by: By) {
    // Nobody here is closed for being silent before the end comes.
    let silence = Duration::from_mins(10);
    let relay = a_relay().with_first_word_timeout_of(silence).with_drain_timeout_of(silence).start();
    let silent_tcp = [TcpStream::connect(relay.listen).await, TcpStream::connect(relay.http).await];
    let silent_link = relay.link(by, Role::Agent).await;
    let client = relay.a_client_of("build", by).await;
    let mut half_said = client.say(b"\x10").await;
    let agents = relay.link(by, Role::Agent).await;
    let mut half_registered = agents.open_stream().await.unwrap();
    send_some(&mut half_registered, b"\x02").await;
    // The relay has seen all of them: it answers what came after.
    let mut agent = relay.an_agent(by).register().await;
    agent.ping().await;

    relay.drain();
    assert_eq!(half_said.refusal().await.code, RefusalCode::STOPPING);
    assert_eq!(relay.stopped().await, Stopped::Clean);
    drop((silent_tcp, silent_link));
}

async fn peers_that_read_nothing_do_not_hold_up_the_end(by: By) {
    let relay = a_relay().with_drain_timeout_of(Duration::from_millis(1)).start();
    let agent = relay.an_agent(by).register().await;
    let session = relay.connect("build", by).await.unwrap();
    let (_, mut stream) = agent.next_session().await;
    let pushing = tokio::spawn(async move { stream.send.write_chunk(noise(1, 64 << 20)).await });
    let upload = relay.connect("build", by).await.unwrap();
    let (_, unread) = agent.next_session().await;
    let mut upload_stream = upload.stream;
    let uploading = tokio::spawn(async move { upload_stream.send.write_chunk(noise(2, 64 << 20)).await });
    relay.drain();
    // More than all windows on the way together: both are in the middle of it when the end comes.
    assert_eq!(relay.stopped().await, Stopped::SessionsCut);
    drop((session, unread));
    // A QUIC sender whose congestion window is full may not hear of the end before its idle time-out; see `Link::settle`.
    pushing.abort();
    uploading.abort();
}

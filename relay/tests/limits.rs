//! What one peer may not do, and that others do not notice it.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, TestRelay, a_relay,
    client::{read_some, send_some},
    noise, soon,
};
use converge_proto::rendezvous::RefusalCode;
use converge_relay::limits::{Limits, Proxies, ProxyProtocol};
use converge_transport::{DialOptions, Role, dial};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

on_each_carrier! {
    one_agent_more_than_an_address_may_have_is_refused_in_words,
    session_keeps_to_its_rate,
    client_that_waits_once_too_often_is_refused_in_words,
    what_is_held_for_a_peer_that_does_not_read_is_bounded,
    other_limits_hold_at_once_and_throw_nobody_out,
}

const MIB: usize = 1024 * 1024;

fn limited(limits: Limits) -> TestRelay {
    a_relay().with_limits(limits).start()
}

/// Sends `request` and returns the whole answer.
async fn ask(relay: &TestRelay, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(relay.http).await.unwrap();
    // An answer may come before all is sent.
    let _ = connection.write_all(request).await;
    let mut answer = Vec::new();
    let _ = soon("an answer", connection.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn one_agent_more_than_an_address_may_have_is_refused_in_words(by: By) {
    let relay = limited(Limits { agents_per_address: 2, ..Limits::default() });
    let first = relay.an_agent(by).register().await;
    let _second = relay.an_agent(by).with_key(2).wanting("other").register().await;
    let Err((link, refused)) = relay.an_agent(by).with_key(3).wanting_any_id().try_register().await else {
        panic!("there was room");
    };
    assert_eq!(refused.code, RefusalCode::LIMIT);
    assert!(refused.text.as_str().contains("your address"), "{}", refused.text);
    soon("the end of the link", link.closed()).await;
    // One that is here already may come on another link, and one that goes makes room.
    let moved = relay.an_agent(by).register().await;
    assert_eq!(moved.id(), "build");
    soon("the end of the leftover", first.link.closed()).await;
    moved.say_bye().await;
    loop {
        if relay.an_agent(by).with_key(3).try_register().await.is_ok() {
            break;
        }
    }
    relay.stop().await;
}

async fn session_keeps_to_its_rate(by: By) {
    let relay = limited(Limits { session_bytes_per_second: MIB as u64, ..Limits::default() });
    let agent = relay.an_agent(by).register().await;
    let mut client = relay.connect("build", by).await.unwrap();
    let (_, mut at_agent) = agent.next_session().await;
    let begun = Instant::now();
    let download = async {
        at_agent.send.write_chunk(noise(1, 2 * MIB)).await.unwrap();
        at_agent.send.flush().await.unwrap();
    };
    let receive = async {
        let mut received = 0;
        while received < 2 * MIB {
            received += soon("bytes", client.stream.recv.read_chunk()).await.unwrap().unwrap().len();
        }
    };
    tokio::join!(download, receive);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1500), "2 MiB at 1 MiB/s took {took:?}");
    send_some(&mut client.stream, b"x").await;
    assert_eq!(read_some(&mut at_agent, 1).await, b"x");
    relay.stop().await;
}

async fn client_that_waits_once_too_often_is_refused_in_words(by: By) {
    let relay = limited(Limits { waiting_clients_per_address: 1, ..Limits::default() });
    let client = relay.a_client_of("build", by).await;
    let mut first = client.ask_to_connect(Duration::from_mins(1)).await;
    first.answer().await;
    let other = relay.a_client_of("build", by).await;
    let refused = other.ask_to_connect(Duration::from_mins(1)).await.refusal().await;
    assert_eq!(refused.code, RefusalCode::LIMIT);
    assert!(refused.text.as_str().contains("waiting"), "{}", refused.text);
    relay.stop().await;
}

async fn what_is_held_for_a_peer_that_does_not_read_is_bounded(by: By) {
    let relay = limited(Limits::default());
    let agent = relay.an_agent(by).register().await;
    let client = relay.connect("build", by).await.unwrap();
    let (_, mut at_agent) = agent.next_session().await;
    let mut sent = 0;
    let piece = noise(1, 64 * 1024);
    // Until nothing more is taken for a while: everything between the two is full.
    while tokio::time::timeout(Duration::from_secs(2), async {
        at_agent.send.write_chunk(piece.clone()).await.unwrap();
        at_agent.send.flush().await.unwrap();
    })
    .await
    .is_ok()
    {
        sent += piece.len();
        assert!(sent < 64 * MIB, "nothing holds the agent back");
    }
    println!("{by:?}: {} KiB between an agent and a client that does not read", sent / 1024);
    drop(client);
    relay.stop().await;
}

async fn other_limits_hold_at_once_and_throw_nobody_out(by: By) {
    let relay = limited(Limits::default());
    let mut first = relay.an_agent(by).register().await;
    let mut second = relay.an_agent(by).with_key(2).wanting("other").register().await;
    let another = |words: &'static str| {
        let trying = relay.an_agent(by).with_key(3).wanting("third");
        async move {
            let Err((_link, refused)) = trying.try_register().await else { panic!("there was room") };
            assert_eq!(refused.code, RefusalCode::LIMIT);
            assert!(refused.text.as_str().contains(words), "{}", refused.text);
        }
    };
    relay.limit(Limits { agents_per_address: 1, ..Limits::default() });
    another("your address").await;
    relay.limit(Limits { agents: 2, ..Limits::default() });
    another("no room for another agent").await;
    relay.limit(Limits { agents: 0, agents_per_address: 3, sessions_per_agent: 1, ..Limits::default() });
    let mut third = relay.an_agent(by).with_key(3).wanting("third").register().await;
    assert_eq!(third.registered.limits.sessions, 1, "it came later");
    for agent in [&mut first, &mut second, &mut third] {
        agent.ping().await;
    }
    // Those that were there may have as many sessions as they were told.
    let _sessions = [relay.connect("build", by).await.unwrap(), relay.connect("build", by).await.unwrap()];
    let _session = relay.connect("third", by).await.unwrap();
    let Err(refused) = relay.connect("third", by).await else { panic!("there was room") };
    assert!(refused.text.as_str().contains("the agent has as many sessions"), "{}", refused.text);
    let body =
        b"POST /sessions HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: 9\r\n\r\nnine bytes";
    assert!(!ask(&relay, body).await.starts_with("HTTP/1.1 413 "));
    relay.limit(Limits { body_bytes: 8, ..Limits::default() });
    assert!(ask(&relay, body).await.starts_with("HTTP/1.1 413 "));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_too_many_is_told_so_over_http_and_by_the_dialer() {
    let relay = limited(Limits { connections_per_address: 3, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(relay.http).await.unwrap());
    }
    let answer = ask(&relay, b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 60") && answer.contains("your address"), "{answer}");
    for by in [By::WebSocket, By::Cleartext] {
        let error = dial(&relay.url_by(by), &DialOptions::default(), Role::Agent).await.unwrap_err();
        assert!(error.to_string().contains("your address has as many connections"), "{error}");
    }
    drop(held);
    loop {
        if ask(&relay, b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
            .await
            .contains(" 200 ")
        {
            break;
        }
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_connections_of_an_address_that_has_too_many_are_closed_in_words() {
    let relay = limited(Limits { connections_per_address: 2, ..Limits::default() });
    let first = relay.an_agent(By::Quic).register().await;
    let _second = relay.an_agent(By::Quic).with_key(2).wanting("other").register().await;
    let third = dial(&relay.url_by(By::Quic), &DialOptions::default(), Role::Agent).await;
    if let Ok(link) = third {
        let closed = soon("the end", link.closed()).await.to_string();
        assert!(closed.contains("your address has as many connections"), "{closed}");
    }
    first.say_bye().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_large_are_refused_before_they_are_read() {
    let relay = limited(Limits::default());
    let body = b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000000000\r\n\r\n";
    assert!(ask(&relay, body).await.starts_with("HTTP/1.1 413 "));
    let mut url = b"GET /".to_vec();
    url.resize(100_000, b'x');
    url.extend_from_slice(b" HTTP/1.1\r\nHost: relay\r\n\r\n");
    let answer = ask(&relay, &url).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let mut header = b"GET / HTTP/1.1\r\nHost: relay\r\nX: ".to_vec();
    header.resize(100_000, b'x');
    let answer = ask(&relay, &header).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_that_trickles_is_not_waited_for() {
    let relay = a_relay().with_first_word_timeout_of(Duration::from_millis(300)).start();
    let mut connection = TcpStream::connect(relay.http).await.unwrap();
    let trickling = async {
        loop {
            if connection.write_all(b"x").await.is_err() {
                break;
            }
            let mut one = [0; 1];
            let ended = tokio::time::timeout(Duration::from_millis(50), connection.read(&mut one)).await;
            if matches!(ended, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
    };
    soon("the end of the connection", trickling).await;
    relay.stop().await;
}

fn behind_proxies(protocol: ProxyProtocol) -> TestRelay {
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let proxies = Proxies { trusted, protocol, ..Proxies::default() };
    limited(Limits { proxies, connections_per_address: 2, ..Limits::default() })
}

/// What the agent hears of where a foreign tool comes from, which says `before` and these header lines.
async fn heard_of(relay: &TestRelay, before: &str, lines: &str) -> String {
    let agent = relay.an_agent(By::Quic).register().await;
    let mut tool = TcpStream::connect(relay.http).await.unwrap();
    let request = format!(
        "{before}GET /client/build HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    tool.write_all(request.as_bytes()).await.unwrap();
    let (client, _stream) = agent.next_session().await;
    agent.say_bye().await;
    client.address.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_proxies_are_believed_for_whom_they_speak() {
    let relay = behind_proxies(ProxyProtocol::Optional);
    let forwarded = "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n";
    assert_eq!(heard_of(&relay, "", forwarded).await, "192.0.2.7:0");
    let proxied = "PROXY TCP4 192.0.2.8 127.0.0.1 4711 80\r\n";
    assert_eq!(heard_of(&relay, proxied, "").await, "192.0.2.8:4711");
    assert_eq!(
        heard_of(&relay, proxied, forwarded).await,
        "192.0.2.8:4711",
        "whom it speaks for is no proxy"
    );
    // The limit is that of whom they speak for.
    let say = format!("{proxied}GET /healthz HTTP/1.1\r\nHost: relay\r\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(relay.http).await.unwrap();
        connection.write_all(format!("{say}\r\n").as_bytes()).await.unwrap();
        let mut start = [0; 12];
        soon("an answer", connection.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        held.push(connection);
    }
    let answer = ask(&relay, format!("{say}Connection: close\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    let other =
        "GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";
    assert!(ask(&relay, other.as_bytes()).await.contains(" 200 "));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_believed() {
    let relay = limited(Limits::default());
    let heard = heard_of(&relay, "", "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n").await;
    assert!(heard.starts_with("127.0.0.1:"), "{heard}");
    let proxied = b"PROXY TCP4 192.0.2.8 127.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: relay\r\n\r\n";
    assert!(!ask(&relay, proxied).await.contains(" 200 "));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_proxy_without_a_header_is_closed_where_it_must_send_one() {
    let relay = behind_proxies(ProxyProtocol::Required);
    assert_eq!(ask(&relay, b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n").await, "");
    let with = b"PROXY UNKNOWN\r\nGET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    assert!(ask(&relay, with).await.contains(" 200 "));
    relay.stop().await;
}

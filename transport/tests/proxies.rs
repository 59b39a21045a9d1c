//! WebSocket through proxies: what gets through, and in which words the rest fails.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{Acceptor, Certificate, loopback, soon, url};
use converge_proto::RelayUrl;
use converge_transport::{
    Carrier, DialError, DialOptions, Link, ProxyChoice, Role, dial, proxy::ProxyEnvironment,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A name that nobody here can resolve.
const ELSEWHERE: &str = "relay.invalid";

fn through(scheme: &str, proxy: SocketAddr) -> DialOptions {
    let proxy = format!("{scheme}://alice:hunter2@{proxy}").parse().unwrap();
    DialOptions { proxy, ..DialOptions::default() }
}

async fn dial_as_agent(relay: &RelayUrl, options: &DialOptions) -> Result<Link, DialError> {
    soon("an answer", dial(relay, options, Role::Agent)).await
}

/// A proxy that leads its one client to `relay`, whatever it asks for; and that question.
async fn proxy(scheme: &'static str, relay: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        if scheme == "http" {
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(client.read_u8().await.unwrap());
            }
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        } else {
            // RFC 1928: methods none and password; RFC 1929: user and password; a name and a port.
            let mut methods = [0; 4];
            client.read_exact(&mut methods).await.unwrap();
            client.write_all(&[5, 2]).await.unwrap();
            let mut login = [0; 1 + 1 + 5 + 1 + 7];
            client.read_exact(&mut login).await.unwrap();
            client.write_all(&[1, 0]).await.unwrap();
            asked = vec![0; 4 + 1 + ELSEWHERE.len() + 2];
            client.read_exact(&mut asked).await.unwrap();
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        }
        let mut relay = TcpStream::connect(relay).await.unwrap();
        // However it ends: what counts is what the two ends say to each other.
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut relay).await });
        asked
    });
    (address, serving)
}

#[tokio::test]
async fn relay_whose_name_only_the_proxy_knows_is_reached_by_websocket() {
    for (scheme, asked_for) in [
        ("http", &b"CONNECT relay.invalid:4433 HTTP/1.1\r\n"[..]),
        ("socks5h", b"\x05\x01\x00\x03\x0drelay.invalid\x11\x51"),
        ("socks5", b"\x05\x01\x00\x03\x0drelay.invalid\x11\x51"),
    ] {
        let certificate = Certificate::new();
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let acceptor = Acceptor::with_tls(listener, &certificate);
        let (proxy, serving) = proxy(scheme, acceptor.address()).await;
        let relay: RelayUrl = format!("https://{ELSEWHERE}:4433").parse().unwrap();
        let relay = relay.with_pin(Some(certificate.pin()));
        let options = through(scheme, proxy);
        let (link, _far) = tokio::join!(dial_as_agent(&relay, &options), acceptor.agents_link());
        let link = link.unwrap();
        assert_eq!(link.carrier(), Carrier::WebSocket, "{scheme}");
        assert!(link.exporter().is_some(), "TLS is between the ends, not with the proxy");
        let asked = soon("the request", serving).await.unwrap();
        assert!(asked.starts_with(asked_for), "{scheme}: {:?}", String::from_utf8_lossy(&asked));
    }
}

/// What a WebSocket dial meets at a proxy that says `answer` to everybody, and the advice.
async fn met(scheme: &str, answer: Vec<u8>) -> (String, &'static str, bool) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked).await;
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {}
    });
    let error = dial_as_agent(&url("ws", loopback()), &through(scheme, address)).await.unwrap_err();
    let words = error.to_string();
    assert!(!words.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    let whole = format!("cannot reach 127.0.0.1:0: websocket: the proxy {scheme}://{address} ");
    let detail = words.strip_prefix(&whole).unwrap_or_else(|| panic!("{words}"));
    (detail.to_owned(), error.advice(), error.may_pass())
}

#[tokio::test]
async fn refusals_of_proxies_have_their_own_words() {
    let (words, advice, may_pass) = met("http", b"HTTP/1.1 407 No\r\n\r\n".to_vec()).await;
    assert_eq!(words, "refuses the user name and password (HTTP status 407)");
    assert!(advice.contains("http://USER:PASSWORD@HOST:PORT"), "{advice}");
    assert!(!may_pass);
    let (words, advice, may_pass) = met("http", b"HTTP/1.1 403 No\r\n\r\n".to_vec()).await;
    assert_eq!(words, "does not connect us to the relay: 403 Forbidden");
    assert!(advice.contains("ask who runs the proxy"), "{advice}");
    assert!(may_pass);
    let (words, ..) = met("socks5h", vec![5, 0xff]).await;
    assert_eq!(words, "refuses the user name and password");
}

#[tokio::test]
async fn what_is_no_proxy_is_found_out() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000)).into_bytes();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200)).into_bytes();
    for (scheme, answer) in [
        ("http", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("http", vec![0; 5000]),
        ("http", vec![]),
        ("http", b"HTTP/1.1 200 OK\r\n".to_vec()),
        ("http", endless),
        ("http", many),
        ("socks5h", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("socks5h", vec![]),
    ] {
        let begins = String::from_utf8_lossy(answer.get(..30).unwrap_or(&answer)).into_owned();
        let (words, advice, _) = met(scheme, answer).await;
        assert!(words.starts_with("does not answer like a proxy of this kind: "), "{begins:?}: {words}");
        assert!(advice.contains("--proxy none"), "{advice}");
    }
}

#[tokio::test]
async fn https_proxy_without_tls_is_found_out() {
    let (words, ..) = met("https", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert_eq!(words, "does not speak TLS that can be trusted: the server does not speak TLS");
}

#[tokio::test]
async fn proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = dial_as_agent(&url("ws", loopback()), &through("http", address)).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains(&format!("the proxy http://{address} cannot be reached: ")), "{words}");
}

/// In virtual time, which runs as long as nobody answers.
#[tokio::test(start_paused = true)]
async fn silent_proxy_is_named_and_not_the_relay() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = dial(&url("ws", loopback()), &through("http", address), Role::Agent).await.unwrap_err();
    let words = error.to_string();
    assert!(words.ends_with(&format!("the proxy http://{address} does not answer")), "{words}");
}

#[tokio::test]
async fn unusable_variable_fails_websocket_and_is_named() {
    let environment = ProxyEnvironment::from_variables(|name| {
        (name == "ALL_PROXY").then(|| "socks4://alice:hunter2@proxy".to_owned())
    });
    let proxy = ProxyChoice::Environment(Box::new(environment));
    let options = DialOptions { proxy, ..DialOptions::default() };
    let relay: RelayUrl = format!("https://{ELSEWHERE}").parse().unwrap();
    let error = dial_as_agent(&relay, &options).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("quic: the name cannot be resolved here: "), "{words}");
    assert!(words.contains("websocket: ALL_PROXY cannot be used: a proxy URL starts with "), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    assert!(error.advice().contains("--proxy none"), "{}", error.advice());
}

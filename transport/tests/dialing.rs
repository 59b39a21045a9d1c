//! What dialing a relay leads to, and in which words it fails.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{Acceptor, Certificate, Ends, Wire, loopback, some_id, soon, url};
use converge_certs::TrustFailure;
use converge_proto::{CertificatePin, RelayUrl};
use converge_transport::{Carrier, CarrierMemory, DialError, DialOptions, Role, dial, quic};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

const WRONG_PIN: CertificatePin = CertificatePin([0; 32]);

async fn dial_as_agent(url: &RelayUrl) -> Result<converge_transport::Link, DialError> {
    soon("an answer", dial(url, &DialOptions::default(), Role::Agent)).await
}

/// A port number that is ours on TCP and UDP.
async fn both_sockets() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind(loopback()).await.unwrap();
        // Somebody else may have that number on UDP.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (tcp, udp);
        }
    }
}

/// A QUIC endpoint and a TCP listener on one port number.
async fn quic_and_tcp(certificate: &Certificate) -> (quinn::Endpoint, TcpListener) {
    loop {
        let tcp = TcpListener::bind(loopback()).await.unwrap();
        if let Ok(endpoint) =
            quic::listen(tcp.local_addr().unwrap(), &certificate.identity, quic::MAX_STREAMS_TO_RELAY)
        {
            return (endpoint, tcp);
        }
    }
}

/// Answers everybody on this port with the same bytes, as a server that is no relay.
async fn server_that_says(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
        }
    });
    address
}

#[tokio::test]
async fn quic_is_preferred_where_both_answer() {
    let certificate = Certificate::new();
    let (endpoint, tcp) = quic_and_tcp(&certificate).await;
    let address = tcp.local_addr().unwrap();
    let accepting = tokio::spawn(async move { endpoint.accept().await.unwrap().await.unwrap() });
    let url = url("https", address).with_pin(Some(certificate.pin()));
    assert_eq!(dial_as_agent(&url).await.unwrap().carrier(), Carrier::Quic);
    soon("the accepting end", accepting).await.unwrap();
}

#[tokio::test]
async fn websocket_takes_over_where_udp_is_answered_by_nobody() {
    let certificate = Certificate::new();
    let (tcp, _silent) = both_sockets().await;
    let url = url("https", tcp.local_addr().unwrap()).with_pin(Some(certificate.pin()));
    let acceptor = Acceptor::with_tls(tcp, &certificate);
    let (link, _far) = tokio::join!(dial_as_agent(&url), acceptor.agents_link());
    let link = link.unwrap();
    assert_eq!(link.carrier(), Carrier::WebSocket);
    assert!(link.exporter().is_some(), "TLS ends here");
}

#[tokio::test]
async fn both_ends_of_a_quic_link_export_the_same_and_each_link_its_own() {
    let (one, two) = (Ends::of(Wire::Quic).await, Ends::of(Wire::Quic).await);
    assert!(one.near.exporter().is_some());
    assert_eq!(one.near.exporter(), one.far.exporter());
    assert_ne!(one.near.exporter(), two.near.exporter());
    assert_eq!(Ends::of(Wire::AgentsWebSocket).await.near.exporter(), None, "no TLS, no exporter");
}

/// What dialing an unwilling trust leads to, on each carrier alone and on both.
async fn not_trusted(pin: Option<CertificatePin>) -> Vec<DialError> {
    let certificate = Certificate::new();
    let (endpoint, tcp) = quic_and_tcp(&certificate).await;
    let address = tcp.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move { incoming.await.ok() });
        }
    });
    let tls = certificate.identity.server_config(&[b"http/1.1"]).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        loop {
            let (stream, _) = tcp.accept().await.unwrap();
            assert!(tls.accept(stream).await.is_err(), "the dialing end must give up");
        }
    });
    let mut errors = Vec::new();
    for scheme in ["quic", "wss", "https"] {
        errors.push(dial_as_agent(&url(scheme, address).with_pin(pin)).await.unwrap_err());
    }
    errors
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_not_trusted_on_any_carrier() {
    for error in not_trusted(Some(WRONG_PIN)).await {
        assert!(matches!(error, DialError::NotTrusted { failure: TrustFailure::WrongPin { .. } }), "{error}");
        assert!(error.advice().contains("somebody is in between"), "{}", error.advice());
    }
}

#[tokio::test]
async fn self_signed_certificate_without_a_pin_is_not_trusted_on_any_carrier() {
    for error in not_trusted(None).await {
        assert!(
            matches!(error, DialError::NotTrusted { failure: TrustFailure::NotTrusted { .. } }),
            "{error}"
        );
        assert!(error.advice().contains("carries the pin"), "{}", error.advice());
    }
}

#[tokio::test]
async fn nothing_there_is_unreachable_and_both_carriers_say_why() {
    let (tcp, _silent) = both_sockets().await;
    let address = tcp.local_addr().unwrap();
    drop(tcp);
    let error = dial_as_agent(&url("https", address)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    let words = error.to_string();
    let expected = format!("cannot reach {address}: quic: no answer; websocket: Connection refused");
    assert!(words.starts_with(&expected), "{words}");
}

#[tokio::test]
async fn http_server_of_another_kind_is_not_a_relay() {
    let address = server_that_says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let error = dial_as_agent(&url("ws", address)).await.unwrap_err();
    let words = format!("cannot reach {address}: websocket: the server answers 200 OK and is not a relay");
    assert_eq!(error.to_string(), words);
}

#[tokio::test]
async fn network_that_wants_a_login_first_is_recognised() {
    for (location, words) in [
        ("https://login.example/welcome?x=1", "sends us to login.example instead of opening a WebSocket"),
        ("/login", "sends us elsewhere instead of opening a WebSocket"),
    ] {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let address = server_that_says(answer.into_bytes().leak()).await;
        let error = dial_as_agent(&url("ws", address)).await.unwrap_err();
        assert!(error.to_string().ends_with(words), "{error}");
        assert!(error.advice().contains("want a login first"), "{}", error.advice());
    }
}

#[tokio::test]
async fn server_without_tls_is_told_apart() {
    let address = server_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = dial_as_agent(&url("wss", address)).await.unwrap_err();
    assert!(error.to_string().ends_with("websocket: the server does not speak TLS"), "{error}");
}

#[tokio::test]
async fn winner_is_remembered_and_a_memory_that_is_wrong_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("converge").join("carriers");
    let options = || {
        let memory = Some(Arc::new(CarrierMemory::kept_in(file.clone())));
        DialOptions { memory, ..DialOptions::default() }
    };
    let remembered = async || {
        soon("a line in the file", async {
            loop {
                match std::fs::read_to_string(&file) {
                    Ok(text) => break text,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        })
        .await
    };
    let certificate = Certificate::new();
    let (tcp, silent) = both_sockets().await;
    let address = tcp.local_addr().unwrap();
    let url = url("https", address).with_pin(Some(certificate.pin()));
    let acceptor = Acceptor::with_tls(tcp, &certificate);
    let options_before = options();
    let dialing = dial(&url, &options_before, Role::Agent);
    let (link, _far) = soon("a link", async { tokio::join!(dialing, acceptor.agents_link()) }).await;
    assert_eq!(link.unwrap().carrier(), Carrier::WebSocket);
    assert_eq!(remembered().await, format!("127.0.0.0/24 {address} websocket\n"));

    // Now UDP is let through, and TCP answers nobody.
    drop(silent);
    let endpoint = quic::listen(address, &certificate.identity, quic::MAX_STREAMS_TO_RELAY).unwrap();
    tokio::spawn(async move { endpoint.accept().await.unwrap().await.map(|link| (link, endpoint)) });
    let link = soon("a link", dial(&url, &options(), Role::Agent)).await.unwrap();
    assert_eq!(link.carrier(), Carrier::Quic);
}

#[tokio::test]
async fn server_of_another_protocol_is_not_a_relay() {
    for answer in [&b"SSH-2.0-OpenSSH_9.9\r\n"[..], b""] {
        let address = server_that_says(answer).await;
        let error = dial_as_agent(&url("ws", address)).await.unwrap_err();
        let words = error.to_string();
        let begins = format!("cannot reach {address}: websocket: the server is not a relay: ");
        assert!(words.starts_with(&begins), "{words}");
    }
}

#[tokio::test]
async fn websocket_server_without_our_subprotocol_is_not_a_relay() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await
    };
    let url = url("ws", address);
    let (error, _) = tokio::join!(dial_as_agent(&url), accepting);
    let words = error.unwrap_err().to_string();
    assert!(words.ends_with("the server opens WebSockets but does not speak Converge"), "{words}");
}

#[tokio::test]
async fn name_that_leads_nowhere_is_named() {
    let relay: RelayUrl = "https://relay.invalid".parse().unwrap();
    let error = dial_as_agent(&relay).await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot resolve relay.invalid: "), "{error}");
}

#[tokio::test]
async fn relay_of_another_version_is_told_apart_on_websocket() {
    let address = server_that_says(
        b"HTTP/1.1 400 Bad Request\r\nconverge-versions: converge.8, converge.9\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let error = dial_as_agent(&url("ws", address)).await.unwrap_err();
    assert!(matches!(error, DialError::Version { .. }), "{error}");
    let words = "websocket: the relay speaks converge.8, converge.9, this program converge.1";
    assert_eq!(error.to_string(), words);
    assert!(error.advice().contains("upgrade"));
}

#[tokio::test]
async fn relay_of_another_version_is_told_apart_on_quic() {
    let certificate = Certificate::new();
    let tls = certificate.identity.server_config(&[b"converge/9"]).unwrap();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let endpoint =
        quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).unwrap();
    let url = url("quic", endpoint.local_addr().unwrap()).with_pin(Some(certificate.pin()));
    let accepting = async { endpoint.accept().await.unwrap().await };
    let (error, _) = tokio::join!(dial_as_agent(&url), accepting);
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::Version { .. }), "{error}");
    assert_eq!(error.to_string(), "quic: the relay speaks none of this program's versions (converge.1)");
}

#[tokio::test]
async fn raw_client_without_an_agent_is_told_so() {
    let address = server_that_says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let id = some_id();
    let error =
        dial(&url("ws", address), &DialOptions::default(), Role::RawClient(&id, None)).await.unwrap_err();
    assert!(matches!(error, DialError::NoSuchId), "{error}");
}

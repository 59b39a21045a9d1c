//! What a probe sees on the way to a relay, and what it advises.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{Acceptor, Certificate, loopback, soon, url};
use converge_proto::{CertificatePin, RelayUrl};
use converge_transport::{
    Carrier, DialOptions, ProxyChoice,
    probe::{Check, CheckName, Outcome, Report, probe},
    proxy::ProxyEnvironment,
    quic,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

async fn report(relay: &RelayUrl, options: &DialOptions) -> Report {
    let report = soon("a report", probe(relay, options)).await.unwrap();
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(names, CheckName::ALL, "every check is there, in order");
    for check in &report.checks {
        let needs_fix = matches!(check.outcome, Outcome::Fail | Outcome::Warn);
        assert_eq!(check.fix.is_some(), needs_fix, "{report}");
        assert!(!check.seen.is_empty(), "{report}");
    }
    report
}

async fn report_on(relay: &RelayUrl) -> Report {
    report(relay, &DialOptions::default()).await
}

fn check(report: &Report, name: CheckName) -> &Check {
    report.checks.iter().find(|check| check.name == name).unwrap()
}

/// One letter for each check, in their order.
fn outcomes(report: &Report) -> String {
    report.checks.iter().map(|check| check.outcome.to_string().chars().next().unwrap()).collect()
}

/// A relay as far as handshakes go, for as long as the test runs.
async fn some_relay(certificate: &Certificate) -> SocketAddr {
    let (endpoint, tcp) = loop {
        let tcp = TcpListener::bind(loopback()).await.unwrap();
        // Somebody else may have that number on UDP.
        if let Ok(endpoint) =
            quic::listen(tcp.local_addr().unwrap(), &certificate.identity, quic::MAX_STREAMS_TO_RELAY)
        {
            break (endpoint, tcp);
        }
    };
    let address = tcp.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            });
        }
    });
    let acceptor = Acceptor::with_tls(tcp, certificate);
    tokio::spawn(async move { acceptor.websocket().await });
    address
}

/// Answers everybody on this port with the same bytes, as a server that is no relay.
async fn server_that_says(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
        }
    });
    address
}

#[tokio::test]
async fn everything_that_works_passes() {
    let certificate = Certificate::new();
    let relay = url("https", some_relay(&certificate).await).with_pin(Some(certificate.pin()));
    let report = report_on(&relay).await;
    // This relay does not tell the time.
    assert_eq!(outcomes(&report), "PPPPPPPSP", "{report}");
    assert_eq!(report.verdict.carrier(), Some(Carrier::Quic));
}

#[tokio::test]
async fn carrier_that_is_not_allowed_is_left_out() {
    for (scheme, expected, carrier) in
        [("quic", "PSPPSSSSP", Carrier::Quic), ("wss", "PPSSPPPSP", Carrier::WebSocket)]
    {
        let certificate = Certificate::new();
        let relay = url(scheme, some_relay(&certificate).await).with_pin(Some(certificate.pin()));
        let report = report_on(&relay).await;
        assert_eq!(outcomes(&report), expected, "{report}");
        assert_eq!(report.verdict.carrier(), Some(carrier));
    }
}

#[tokio::test]
async fn unverified_certificates_are_a_warning() {
    let certificate = Certificate::new();
    let relay = url("https", some_relay(&certificate).await);
    let options = DialOptions { insecure: true, ..DialOptions::default() };
    let report = report(&relay, &options).await;
    assert_eq!(outcomes(&report), "PPWPPWPSP", "{report}");
    assert!(check(&report, CheckName::Tls).seen.contains("rcgen self signed cert"), "{report}");
}

#[tokio::test]
async fn silent_udp_leaves_websocket() {
    let certificate = Certificate::new();
    let (tcp, _silent) = loop {
        let tcp = TcpListener::bind(loopback()).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let relay = url("https", tcp.local_addr().unwrap()).with_pin(Some(certificate.pin()));
    let acceptor = Acceptor::with_tls(tcp, &certificate);
    tokio::spawn(async move { acceptor.websocket().await });
    let report = report_on(&relay).await;
    assert_eq!(outcomes(&report), "PPFSPPPSP", "{report}");
    assert_eq!(report.verdict.carrier(), Some(Carrier::WebSocket));
    let quic = check(&report, CheckName::Quic);
    assert_eq!(quic.seen, format!("no answer from UDP port {}", relay.port()));
    assert!(quic.fix.as_deref().unwrap().contains("let UDP through"), "{report}");
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_told_on_both_carriers() {
    let certificate = Certificate::new();
    let address = some_relay(&certificate).await;
    let report = report_on(&url("https", address).with_pin(Some(CertificatePin([0; 32])))).await;
    assert_eq!(report.verdict.carrier(), None);
    for name in [CheckName::Quic, CheckName::Tls] {
        let check = check(&report, name);
        assert_eq!(check.outcome, Outcome::Fail, "{report}");
        assert!(check.seen.contains("another key than the pin"), "{report}");
        assert!(check.seen.contains("rcgen self signed cert"), "the issuer is named: {report}");
        assert!(check.fix.as_deref().unwrap().contains("copy the relay's URL again"), "{report}");
    }
}

#[tokio::test]
async fn nothing_there_is_refused_on_both_carriers() {
    let udp = UdpSocket::bind(loopback()).await.unwrap();
    let tcp = TcpListener::bind(udp.local_addr().unwrap()).await;
    let relay = url("https", udp.local_addr().unwrap());
    drop((udp, tcp));
    let report = report_on(&relay).await;
    assert_eq!(outcomes(&report), "PPFSFSSSS", "{report}");
    assert!(check(&report, CheckName::Quic).seen.contains("nothing listens on UDP port"), "{report}");
    assert!(check(&report, CheckName::Tcp).fix.as_deref().unwrap().contains("nothing listens"), "{report}");
    assert_eq!(report.verdict.carrier(), None);
}

#[tokio::test]
async fn servers_that_are_no_relay_are_told_apart() {
    for (answer, seen, fix, clock, version) in [
        (
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nhi",
            "answers 200 OK and is not a relay",
            "want a login first",
            Outcome::Warn,
            Outcome::Skip,
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n",
            "sends us to login.example",
            "want a login first",
            Outcome::Skip,
            Outcome::Skip,
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
            "something in between has taken that out of the request",
            "Upgrade and Connection headers",
            Outcome::Skip,
            Outcome::Skip,
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "404 Not Found",
            "check the path",
            Outcome::Skip,
            Outcome::Skip,
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "502 Bad Gateway",
            "behind the balancer",
            Outcome::Skip,
            Outcome::Skip,
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nconverge-versions: converge.9\r\nContent-Length: 0\r\n\r\n",
            "the relay speaks converge.9, this program converge.1",
            "upgrade the older",
            Outcome::Skip,
            Outcome::Fail,
        ),
        (
            "SSH-2.0-OpenSSH_9.9\r\n",
            "the server is not a relay",
            "check host, port and path",
            Outcome::Skip,
            Outcome::Skip,
        ),
    ] {
        let report = report_on(&url("ws", server_that_says(answer).await)).await;
        let websocket = check(&report, CheckName::WebSocket);
        assert_eq!(websocket.outcome, Outcome::Fail, "{report}");
        assert!(websocket.seen.contains(seen), "{report}");
        assert!(websocket.fix.as_deref().unwrap().contains(fix), "{report}");
        assert_eq!(check(&report, CheckName::Clock).outcome, clock, "{report}");
        assert_eq!(check(&report, CheckName::Version).outcome, version, "{report}");
        assert_eq!(report.verdict.carrier(), None);
    }
}

#[tokio::test]
async fn server_without_tls_fails_there() {
    let report = report_on(&url("wss", server_that_says("HTTP/1.1 400 Bad Request\r\n\r\n").await)).await;
    assert_eq!(outcomes(&report), "PPSSPFSSS", "{report}");
    assert_eq!(check(&report, CheckName::Tls).seen, "the server does not speak TLS");
}

#[tokio::test]
async fn name_that_leads_nowhere_stops_everything_behind_it() {
    let report = report_on(&"https://relay.invalid".parse().unwrap()).await;
    assert_eq!(outcomes(&report), "FPSSSSSSS", "{report}");
    assert!(check(&report, CheckName::Dns).seen.starts_with("cannot resolve relay.invalid: "), "{report}");
}

fn environment(variable: &str, value: &str) -> DialOptions {
    let environment = ProxyEnvironment::from_variables(|name| (name == variable).then(|| value.to_owned()));
    DialOptions { proxy: ProxyChoice::Environment(Box::new(environment)), ..DialOptions::default() }
}

#[tokio::test]
async fn proxy_is_named_with_its_variable_and_without_its_password() {
    let proxy = server_that_says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let options = environment("HTTPS_PROXY", &format!("http://alice:hunter2@{proxy}"));
    let report = report(&"https://relay.invalid".parse().unwrap(), &options).await;
    // What this machine cannot resolve is the proxy's to know.
    assert_eq!(outcomes(&report), "WPSSFSSSS", "{report}");
    assert_eq!(check(&report, CheckName::Proxy).seen, format!("http://{proxy}, from HTTPS_PROXY"));
    let tcp = check(&report, CheckName::Tcp);
    assert!(tcp.seen.ends_with("does not connect us to the relay: 403 Forbidden"), "{report}");
    assert!(tcp.fix.as_deref().unwrap().contains("ask who runs the proxy"), "{report}");
    assert!(!format!("{report} {report:?}").contains("hunter2"), "{report:?}");
}

#[tokio::test]
async fn unusable_proxy_fails_websocket_alone() {
    let options = environment("ALL_PROXY", "socks4://alice:hunter2@proxy");
    let report = report(&"https://relay.invalid".parse().unwrap(), &options).await;
    assert_eq!(outcomes(&report), "FFSSSSSSS", "{report}");
    assert!(check(&report, CheckName::Proxy).seen.starts_with("ALL_PROXY cannot be used"), "{report}");
    assert!(!format!("{report:?}").contains("hunter2"), "{report:?}");
}

/// In virtual time, which runs as long as nobody answers.
#[tokio::test(start_paused = true)]
async fn silence_everywhere_is_over_in_fifteen_seconds() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let begun = tokio::time::Instant::now();
    for scheme in ["wss", "ws"] {
        let report = report_on(&url(scheme, address)).await;
        assert_eq!(report.verdict.carrier(), None, "{report}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
}

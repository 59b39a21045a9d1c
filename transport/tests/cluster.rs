//! Two relays that act as one: what one has given out is good at the other, and what arrives at the wrong one is not lost.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

#[path = "cluster/balancer.rs"]
mod balancer;
mod common;

use balancer::{Balancer, Sources};
use common::{Certificate, Noise, assert_same, loopback, soon};
use converge_proto::{RelayNumber, version::ProtocolVersion};
use converge_transport::quic::{
    Answer, CidFormat, ClusterCids, ConnectionIds, Crossing, Fate, Forwarded, MAX_STREAMS_TO_RELAY,
    NotForwarded, Protection, Rotation, Stray, Strays, bind, listen_on,
};
use quinn::{ConnectionError, crypto::rustls::QuicClientConfig};
use rustls::{
    HandshakeKind,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const SECRET: [u8; 32] = [9; 32];
const NAME: &str = "localhost";

/// A relay of a cluster, with a certificate of its own.
struct Relay {
    endpoint: quinn::Endpoint,
    crossing: Crossing,
    identity: converge_certs::Identity,
}

impl Relay {
    fn new(number: u16, secret: [u8; 32], protection: Protect, strays: Arc<dyn Strays>) -> Self {
        let identity = Certificate::new().identity.with_cluster_secret(secret);
        let protection = match protection {
            Protect::Plaintext => Protection::Plaintext,
            Protect::Encrypted => Protection::derived(&identity),
        };
        let cids = ClusterCids::new(CidFormat { rotation: Rotation::default(), protection }).unwrap();
        let crossing = Crossing::new(RelayNumber::new(number).unwrap(), cids, strays);
        let ids = ConnectionIds::Cluster(crossing.clone());
        let endpoint = listen_on(bind(loopback()).unwrap(), &identity, MAX_STREAMS_TO_RELAY, &ids).unwrap();
        Self { endpoint, crossing, identity }
    }

    fn resetting(number: u16, secret: [u8; 32]) -> Self {
        Self::new(number, secret, Protect::Encrypted, Arc::new(NotForwarded))
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// The next connection. It echoes its streams.
    async fn accept(&self) -> quinn::Connection {
        let connection = self.endpoint.accept().await.unwrap().await.unwrap();
        echo_streams(connection.clone());
        connection
    }
}

#[derive(Clone, Copy)]
enum Protect {
    Plaintext,
    Encrypted,
}

fn echo_streams(connection: quinn::Connection) {
    tokio::spawn(async move {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            tokio::spawn(async move {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                    if send.write_all(&chunk.bytes).await.is_err() {
                        return;
                    }
                }
                let _ = send.finish();
            });
        }
    });
}

/// Believes everything and counts how often it was asked: not when a session is resumed.
#[derive(Debug, Default)]
struct Credulous(AtomicUsize);

impl Credulous {
    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("not TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = converge_certs::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        converge_certs::provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client_tls(alpn: &[&[u8]]) -> (rustls::ClientConfig, Arc<Credulous>) {
    let verifier = Arc::new(Credulous::default());
    let mut config = rustls::ClientConfig::builder_with_provider(converge_certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    (config, verifier)
}

/// A client that remembers sessions and tokens.
struct Client {
    endpoint: quinn::Endpoint,
    verifier: Arc<Credulous>,
}

impl Client {
    fn new() -> Self {
        let alpn: Vec<_> = ProtocolVersion::ALL.iter().map(|version| version.alpn()).collect();
        let (tls, verifier) = client_tls(&alpn);
        let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        Self { endpoint, verifier }
    }

    async fn dial(&self, address: SocketAddr) -> quinn::Connection {
        soon("a connection", self.endpoint.connect(address, NAME).unwrap()).await.unwrap()
    }

    /// Both ends of a connection to this relay.
    async fn connect(&self, relay: &Relay, address: SocketAddr) -> (quinn::Connection, quinn::Connection) {
        soon("both ends", async { tokio::join!(self.dial(address), relay.accept()) }).await
    }
}

/// What the other end has sent before its echo has come by then, as tickets and tokens have.
async fn echo(connection: &quinn::Connection, bytes: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    soon("an echo", recv.read_to_end(bytes.len())).await.unwrap()
}

#[tokio::test]
async fn quic_session_of_one_relay_is_resumed_at_another_of_the_cluster_only() {
    let (first, second) = (Relay::resetting(1, SECRET), Relay::resetting(2, SECRET));
    let stranger = Relay::resetting(2, [8; 32]);
    let client = Client::new();
    for (relay, asked, why) in [
        (&first, 1, "nothing to resume"),
        (&second, 1, "resumed"),
        (&first, 1, "resumed, with the ticket of the second"),
        (&stranger, 2, "another secret"),
    ] {
        let (near, far) = client.connect(relay, relay.address()).await;
        assert_eq!(echo(&near, b"hello").await, b"hello");
        assert_eq!(client.verifier.asked(), asked, "{why}");
        assert_eq!(far.remote_address(), client.endpoint.local_addr().unwrap());
    }
}

#[tokio::test]
async fn tcp_session_of_one_relay_is_resumed_at_another_of_the_cluster_only() {
    let shared = || Certificate::new().identity.with_cluster_secret(SECRET);
    let (first, second) = (shared(), shared());
    let stranger = Certificate::new().identity.with_cluster_secret([8; 32]);
    let alone = Certificate::new().identity;
    let (tls, _) = client_tls(&[b"http/1.1"]);
    let connector = TlsConnector::from(Arc::new(tls));
    for (identity, kind) in [
        (&first, HandshakeKind::Full),
        (&second, HandshakeKind::Resumed),
        (&first, HandshakeKind::Resumed),
        (&stranger, HandshakeKind::Full),
        (&alone, HandshakeKind::Full),
    ] {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let config = identity.server_config(&[b"http/1.1"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serving = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        let dialing = async {
            let mut stream = connector.connect(NAME.try_into().unwrap(), tcp).await.unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            (read, stream.get_ref().1.handshake_kind())
        };
        let (served, (read, dialed)) = soon("a handshake", async { tokio::join!(serving, dialing) }).await;
        assert_eq!(read, b"hello");
        assert_eq!((served, dialed), (Some(kind), Some(kind)));
    }
}

#[tokio::test]
async fn retry_of_one_relay_is_good_at_another() {
    let (first, second) = (Relay::resetting(1, SECRET), Relay::resetting(2, SECRET));
    let balancer = Balancer::before([first.address(), second.address()], Sources::Same).await;
    balancer.change_with_next_answer();
    let client = Client::new();
    let retrying = async {
        let incoming = first.endpoint.accept().await.unwrap();
        assert!(!incoming.remote_address_validated() && incoming.may_retry());
        incoming.retry().unwrap();
    };
    let accepting = async {
        let incoming = second.endpoint.accept().await.unwrap();
        assert!(incoming.remote_address_validated() && !incoming.may_retry());
        let connection = incoming.await.unwrap();
        echo_streams(connection);
    };
    let (near, (), ()) =
        soon("a connection", async { tokio::join!(client.dial(balancer.address), retrying, accepting) })
            .await;
    assert_eq!(echo(&near, b"hello").await, b"hello");
}

#[tokio::test]
async fn address_validation_token_of_one_relay_is_good_at_another_of_the_cluster_only() {
    let (first, second) = (Relay::resetting(1, SECRET), Relay::resetting(2, SECRET));
    let stranger = Relay::resetting(2, [8; 32]);
    for (other, validated) in [(&second, true), (&stranger, false)] {
        let client = Client::new();
        let (near, _far) = client.connect(&first, first.address()).await;
        assert_eq!(echo(&near, b"hello").await, b"hello");
        let dialing = client.endpoint.connect(other.address(), NAME).unwrap();
        let incoming = soon("a handshake", other.endpoint.accept()).await.unwrap();
        assert_eq!(incoming.remote_address_validated(), validated);
        incoming.ignore();
        drop(dialing);
    }
}

#[tokio::test]
async fn what_is_not_forwarded_is_reset_at_once() {
    for sources in [Sources::Same, Sources::EachItsOwn] {
        let (first, second) = (Relay::resetting(1, SECRET), Relay::resetting(2, SECRET));
        let balancer = Balancer::before([first.address(), second.address()], sources).await;
        let client = Client::new();
        let (near, _far) = client.connect(&first, balancer.address).await;
        assert_eq!(echo(&near, b"hello").await, b"hello");

        balancer.route_to(1);
        let since = Instant::now();
        let (mut send, _recv) = near.open_bi().await.unwrap();
        send.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(soon("a reset", near.closed()).await, ConnectionError::Reset);
        assert!(since.elapsed() < Duration::from_secs(20), "that was the idle timeout");

        let (near, _far) = client.connect(&second, balancer.address).await;
        assert_eq!(echo(&near, b"hello").await, b"hello");
        assert_eq!(client.verifier.asked(), 1, "it has resumed");
    }
}

/// Hands datagrams from relay to relay in memory.
struct Cable {
    at: RelayNumber,
    relays: Arc<Mutex<HashMap<RelayNumber, Crossing>>>,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cable")
    }
}

impl Cable {
    fn relay(&self, number: RelayNumber) -> Option<Crossing> {
        self.relays.lock().unwrap().get(&number).cloned()
    }
}

impl Strays for Cable {
    fn stray(&self, stray: Stray<'_>) -> Fate {
        let Some(relay) = self.relay(stray.relay) else { return Fate::NotWanted };
        let bytes = stray.bytes.to_vec().into();
        relay.deliver(Forwarded { via: self.at, from: stray.from, bytes });
        Fate::Taken
    }

    fn answer(&self, answer: Answer) {
        if let Some(relay) = self.relay(answer.via) {
            relay.send_answer(answer.to, &answer.bytes);
        }
    }
}

fn cabled(protection: Protect) -> [Relay; 2] {
    let relays = Arc::new(Mutex::new(HashMap::new()));
    [1, 2].map(|number| {
        let at = RelayNumber::new(number).unwrap();
        let relay = Relay::new(number, SECRET, protection, Arc::new(Cable { at, relays: relays.clone() }));
        relays.lock().unwrap().insert(at, relay.crossing.clone());
        relay
    })
}

/// Where a relay thinks its peer is.
async fn until_at(relay: &Relay, connection: &quinn::Connection, via: Option<RelayNumber>) {
    soon("a migration", async {
        while relay.crossing.origin(connection.remote_address()).map(|(via, _)| via) != via {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A stream that goes on while its packets arrive at the other relay, and later at their own again.
async fn roams(sources: Sources, protection: Protect) {
    const MUCH: usize = 12 * 1024 * 1024;
    let [first, second] = cabled(protection);
    let balancer = Balancer::before([first.address(), second.address()], sources).await;
    let client = Client::new();
    let (near, far) = client.connect(&first, balancer.address).await;
    let real = far.remote_address();
    let bytes = Noise::new(5).bytes(MUCH);
    let (mut send, mut recv) = near.open_bi().await.unwrap();
    let sending = async {
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
    };
    let receiving = async {
        let (mut got, mut moves) = (Vec::new(), 0);
        while let Some(chunk) = soon("more bytes", recv.read_chunk(64 * 1024, true)).await.unwrap() {
            got.extend_from_slice(&chunk.bytes);
            if moves == 0 && got.len() > MUCH / 3 {
                moves = 1;
                balancer.route_to(1);
            } else if moves == 1 && got.len() > MUCH * 2 / 3 {
                moves = 2;
                until_at(&first, &far, Some(second.crossing.number())).await;
                assert!(balancer.answers_of(1) > 100, "{}", balancer.answers_of(1));
                let (_, from) = first.crossing.origin(far.remote_address()).unwrap();
                assert_eq!(from == real, sources == Sources::Same);
                balancer.route_to(0);
            }
        }
        got
    };
    let ((), got) = tokio::join!(sending, receiving);
    assert_same(&got, &bytes);
    until_at(&first, &far, None).await;
    assert_eq!(far.remote_address(), real);
    assert_eq!(echo(&near, b"still there").await, b"still there");
    assert_eq!((near.close_reason(), far.close_reason()), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_goes_on_while_its_packets_arrive_at_another_relay_from_the_same_address() {
    roams(Sources::Same, Protect::Encrypted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_goes_on_while_its_packets_arrive_at_another_relay_from_another_address() {
    roams(Sources::EachItsOwn, Protect::Plaintext).await;
}

#[tokio::test]
async fn idle_connection_is_found_again_through_another_relay() {
    let [first, second] = cabled(Protect::Encrypted);
    let balancer = Balancer::before([first.address(), second.address()], Sources::EachItsOwn).await;
    let client = Client::new();
    let (near, far) = client.connect(&first, balancer.address).await;
    assert_eq!(echo(&near, b"hello").await, b"hello");
    balancer.route_to(1);
    assert_eq!(echo(&near, b"there").await, b"there");
    until_at(&first, &far, Some(second.crossing.number())).await;

    // The client itself moves too, and uses another of the connection IDs that it was given.
    let before = first.crossing.origin(far.remote_address());
    let port = client.endpoint.local_addr().unwrap().port();
    client.endpoint.rebind(bind(loopback()).unwrap()).unwrap();
    assert_ne!(client.endpoint.local_addr().unwrap().port(), port);
    assert_eq!(echo(&near, b"and there").await, b"and there");
    assert_eq!(
        first.crossing.origin(far.remote_address()),
        before,
        "the balancer speaks from where it spoke"
    );
    balancer.route_to(0);
    assert_eq!(echo(&near, b"and back").await, b"and back");
    until_at(&first, &far, None).await;
    balancer.route_to(1);
    assert_eq!(echo(&near, b"and there again").await, b"and there again");

    far.close(7_u8.into(), b"bye");
    let ConnectionError::ApplicationClosed(close) = soon("the end", near.closed()).await else { panic!() };
    assert_eq!(close.error_code, 7_u8.into());
}

#[tokio::test]
async fn connection_that_its_relay_has_forgotten_is_reset_through_another() {
    let [first, second] = cabled(Protect::Encrypted);
    let balancer = Balancer::before([first.address(), second.address()], Sources::EachItsOwn).await;
    let client = Client::new();
    let (near, far) = client.connect(&first, balancer.address).await;
    assert_eq!(echo(&near, b"hello").await, b"hello");
    // What the relay says at its end gets lost.
    balancer.route_to(1);
    far.close(0_u8.into(), b"");
    soon("the end", first.endpoint.wait_idle()).await;
    let (mut send, _recv) = near.open_bi().await.unwrap();
    send.write_all(&[7; 1000]).await.unwrap();
    assert_eq!(soon("a reset", near.closed()).await, ConnectionError::Reset);
    assert!(first.identity.is_of_cluster());
}

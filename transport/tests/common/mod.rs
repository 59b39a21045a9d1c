//! Two ends of one link over loopback, on each carrier.

#![allow(dead_code, unreachable_pub, reason = "every test program uses its own part of this")]

use bytes::Bytes;
use converge_certs::Identity;
use converge_proto::{
    CertificatePin, Frame, Id, RelayUrl,
    rendezvous::{Message, Ping},
};
use converge_transport::{
    DialOptions, Link, Role, Stream, dial, quic,
    websocket::{
        BoxedIo, Framing, Receiver, Sender, accepted,
        mux::{MuxLink, Side},
    },
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Nothing here takes this long; a test that hangs fails instead.
const GUARD: Duration = Duration::from_secs(30);

/// Waits for an event that must come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, event).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A self-signed certificate of its own, and the directory it lives in.
pub struct Certificate {
    pub identity: Identity,
    _directory: TempDir,
}

impl Certificate {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
        Self { identity, _directory: directory }
    }

    pub fn pin(&self) -> CertificatePin {
        CertificatePin(self.identity.spki_sha256())
    }
}

pub fn url(scheme: &str, address: SocketAddr) -> RelayUrl {
    format!("{scheme}://{address}").parse().unwrap()
}

pub fn some_id() -> Id {
    "build".parse().unwrap()
}

/// Opens WebSockets on a TCP port, as a relay does.
pub struct Acceptor {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Acceptor {
    pub async fn cleartext() -> Self {
        Self { listener: TcpListener::bind(loopback()).await.unwrap(), tls: None }
    }

    pub fn with_tls(listener: TcpListener, certificate: &Certificate) -> Self {
        let config = certificate.identity.server_config(&[b"http/1.1"]).unwrap();
        Self { listener, tls: Some(TlsAcceptor::from(Arc::new(config))) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub async fn tcp(&self) -> TcpStream {
        let (stream, _) = soon("a TCP connection", self.listener.accept()).await.unwrap();
        stream
    }

    /// The next connection, after the opening handshake.
    pub async fn websocket(&self) -> BoxedIo {
        let stream = self.tcp().await;
        let io: BoxedIo = match &self.tls {
            Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
            None => Box::new(stream),
        };
        #[expect(clippy::result_large_err)] // The library's own shape.
        let answer = |request: &Request, mut response: Response| {
            if let Some(offered) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", offered.clone());
            }
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(io, answer).await.unwrap().into_inner()
    }

    async fn framed(&self, framing: Framing) -> (Sender, Receiver) {
        accepted(self.websocket().await, framing).await
    }

    pub async fn agents_link(&self) -> Link {
        let (sender, receiver) = self.framed(Framing::Converge).await;
        Link::multiplexed(MuxLink::start(sender, receiver, Side::Accepting), None)
    }

    pub async fn clients_link(&self) -> Link {
        let (sender, receiver) = self.framed(Framing::Converge).await;
        Link::single(sender, receiver)
    }

    pub async fn clients_stream(&self, framing: Framing) -> Stream {
        let (sender, receiver) = self.framed(framing).await;
        Stream::websocket(sender, receiver)
    }
}

/// What the two ends are connected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Quic,
    /// Many streams over one WebSocket.
    AgentsWebSocket,
    /// The WebSocket is the stream.
    ClientsWebSocket,
}

/// Both ends of a link: near has dialed far.
pub struct Ends {
    pub wire: Wire,
    pub near: Link,
    pub far: Link,
    _endpoint: Option<quinn::Endpoint>,
}

impl Ends {
    pub async fn of(wire: Wire) -> Self {
        let options = DialOptions::default();
        if wire == Wire::Quic {
            let certificate = Certificate::new();
            let endpoint =
                quic::listen(loopback(), &certificate.identity, quic::MAX_STREAMS_TO_RELAY).unwrap();
            let url = url("quic", endpoint.local_addr().unwrap()).with_pin(Some(certificate.pin()));
            let accepting = async { endpoint.accept().await.unwrap().await.unwrap() };
            let (near, connection) =
                soon("a link", async { tokio::join!(dial(&url, &options, Role::Agent), accepting) }).await;
            let far = Link::quic(connection, None);
            return Self { wire, near: near.unwrap(), far, _endpoint: Some(endpoint) };
        }
        let acceptor = Acceptor::cleartext().await;
        let (url, id) = (url("ws", acceptor.address()), some_id());
        let (near, far) = soon("a link", async {
            if wire == Wire::AgentsWebSocket {
                tokio::join!(dial(&url, &options, Role::Agent), acceptor.agents_link())
            } else {
                tokio::join!(dial(&url, &options, Role::Client(&id)), acceptor.clients_link())
            }
        })
        .await;
        Self { wire, near: near.unwrap(), far, _endpoint: None }
    }

    /// A stream that near has opened, at both ends.
    pub async fn stream(&self) -> (Stream, Stream) {
        let mut near = self.near.open_stream().await.unwrap();
        // A stream is seen by the peer when it has something to say.
        near.send.write_frame(&hello()).await.unwrap();
        let mut far = match self.wire {
            Wire::ClientsWebSocket => self.far.open_stream().await.unwrap(),
            Wire::Quic | Wire::AgentsWebSocket => soon("a stream", self.far.accept_stream()).await.unwrap(),
        };
        assert_eq!(soon("a frame", far.recv.read_frame()).await, Ok(Some(hello())));
        (near, far)
    }
}

fn hello() -> Frame {
    Ping { token: 1 }.to_frame()
}

/// Runs each body on each of the wires, as tests named after both.
#[macro_export]
macro_rules! on_each_wire {
    ($($wire:ident $variant:ident: [$($body:ident),* $(,)?])*) => {
        $(mod $wire {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $body() {
                super::$body($crate::common::Ends::of($crate::common::Wire::$variant).await).await;
            })*
        })*
    };
}

/// Bytes and cuts that look random and are the same in every run (xorshift).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn up_to(&mut self, max: usize) -> usize {
        1 + usize::try_from(self.next() % max as u64).unwrap()
    }

    pub fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes: Vec<u8> = (0..=len / 8).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes.into()
    }
}

/// Reads to the end.
pub async fn read_all(stream: &mut Stream) -> Result<Vec<u8>, converge_transport::StreamError> {
    let mut all = Vec::new();
    while let Some(chunk) = soon("more bytes", stream.recv.read_chunk()).await? {
        assert!(!chunk.is_empty(), "a chunk is never empty");
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Compares without printing megabytes.
pub fn assert_same(got: &[u8], sent: &[u8]) {
    let first_difference = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!((got.len(), first_difference), (sent.len(), None));
}

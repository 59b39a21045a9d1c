//! A relay in this process, and hand-written agents and clients that say exactly what a test wants said.

#![allow(dead_code, unreachable_pub, reason = "every test program uses its own part of this")]

pub mod agent;
pub mod client;
pub mod cluster;
pub mod etcd;
pub mod wire;

use converge_certs::Identity;
use converge_proto::{CertificatePin, RelayUrl, rendezvous::messages::Name};
use converge_relay::{
    Config, Downloads, PagesSettings, Relay, Sockets, Stopped,
    config::{Live, Reload},
    limits::Limits,
};
use converge_transport::{CloseCode, DialOptions, Link, LinkError, Role, StreamError, dial};
use std::{
    fmt::Debug,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::{layer::Context, prelude::*, registry::LookupSpan};

/// Nothing here takes this long; a test that hangs fails instead.
const GUARD: Duration = Duration::from_secs(30);

/// Waits for an event that must come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, event).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// What agents and clients reach the relay by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Quic,
    WebSocket,
    /// WebSocket without TLS, as behind a balancer.
    Cleartext,
}

/// Runs each body on each carrier, as tests named after both.
#[macro_export]
macro_rules! on_each_carrier {
    (@of $module:ident $by:ident: $($body:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $body() {
                super::$body($crate::common::By::$by).await;
            })*
        }
    };
    ($($body:ident),* $(,)?) => {
        $crate::on_each_carrier!(@of quic Quic: $($body),*);
        $crate::on_each_carrier!(@of websocket WebSocket: $($body),*);
    };
}

/// A relay that has not started yet.
pub struct RelayBuilder {
    pub config: Config,
    sockets: Sockets,
    directory: TempDir,
}

/// A relay on ports of its own.
pub fn a_relay() -> RelayBuilder {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = Config { http: Some(any), self_signed: true, ..Config::new(any, identity) };
    RelayBuilder { config, sockets: Sockets::default(), directory }
}

impl RelayBuilder {
    pub fn with_reservations_of(mut self, time: Duration) -> Self {
        self.config.reservation = time;
        self
    }

    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config.live.limits = Arc::new(limits);
        self
    }

    pub fn with_first_word_timeout_of(mut self, time: Duration) -> Self {
        self.config.first_word_timeout = time;
        self
    }

    pub fn with_drain_timeout_of(mut self, time: Duration) -> Self {
        self.config.live.drain_timeout = time;
        self
    }

    /// On sockets that stay when the relay goes.
    pub fn on(mut self, tcp: &std::net::TcpListener, udp: &std::net::UdpSocket) -> Self {
        self.sockets.tcp = Some(tcp.try_clone().unwrap());
        self.sockets.udp = Some(udp.try_clone().unwrap());
        self
    }

    /// What its certificate is pinned by.
    pub fn pin(&self) -> CertificatePin {
        CertificatePin(self.config.identity.spki_sha256())
    }

    pub fn with_downloads_of(mut self, directory: &Path) -> Self {
        self.config.downloads = Some(Downloads::open(directory.to_owned()).unwrap());
        self
    }

    pub fn under(mut self, url: &str) -> Self {
        self.config.public_url = Some(url.parse().unwrap());
        self
    }

    pub fn with_pages(mut self, pages: PagesSettings) -> Self {
        self.config.pages = pages;
        self
    }

    pub fn start(self) -> TestRelay {
        count_complaints();
        let pin = self.pin();
        let relay = Relay::bind_with(self.config, self.sockets).unwrap();
        let (addresses, reload) = (relay.addresses().clone(), relay.reload());
        let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
        let running = tokio::spawn(relay.run(stop.clone(), stop_now.clone()));
        TestRelay {
            url: addresses.url,
            pin,
            listen: addresses.listen,
            http: addresses.http.unwrap(),
            reload,
            stop,
            stop_now,
            running,
            _directory: self.directory,
        }
    }
}

/// A relay that runs.
pub struct TestRelay {
    pub url: RelayUrl,
    /// What its certificate is pinned by.
    pub pin: CertificatePin,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    reload: Reload,
    stop: CancellationToken,
    stop_now: CancellationToken,
    running: JoinHandle<Stopped>,
    _directory: TempDir,
}

impl TestRelay {
    pub fn url_by(&self, by: By) -> RelayUrl {
        let url = match by {
            By::Quic => format!("quic://{}", self.listen),
            By::WebSocket => format!("wss://{}", self.listen),
            By::Cleartext => return format!("ws://{}", self.http).parse().unwrap(),
        };
        url.parse::<RelayUrl>().unwrap().with_pin(Some(self.pin))
    }

    pub async fn link(&self, by: By, role: Role<'_>) -> Link {
        soon("a link", dial(&self.url_by(by), &DialOptions::default(), role)).await.unwrap()
    }

    /// Other limits from now on, as after SIGHUP.
    pub fn limit(&self, limits: Limits) {
        self.reload.apply(Live { limits: Arc::new(limits), ..self.reload.live() });
    }

    /// Tells the relay to stop, and lets it drain.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// The end of a relay that was told to stop. Every task of it must have ended, too.
    pub async fn stopped(self) -> Stopped {
        let stopped = soon("the end of the relay", self.running).await.unwrap();
        assert_eq!(COMPLAINTS.load(Ordering::SeqCst), 0, "the relay has logged that something is wrong");
        stopped
    }

    /// Stops the relay, whatever goes on.
    pub async fn stop(self) {
        self.stop.cancel();
        self.stop_now.cancel();
        self.stopped().await;
    }
}

/// How often a relay of this process has logged a warning or an error: tests do nothing that somebody should look at.
static COMPLAINTS: AtomicUsize = AtomicUsize::new(0);

struct Complaints;

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Complaints {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN && metadata.target().starts_with("converge") {
            COMPLAINTS.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn on_new_span(&self, _: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {}
}

fn count_complaints() {
    let filter = tracing_subscriber::EnvFilter::from_env("CONVERGE_LOG");
    let lines = tracing_subscriber::fmt::layer().with_test_writer().with_filter(filter);
    // Another test of this process may have been first.
    let _ = tracing_subscriber::registry().with(Complaints).with(lines).try_init();
}

pub fn name(text: &str) -> Name {
    Name::new(text)
}

/// How the peer closed a link: the code, and the words for people.
#[track_caller]
pub fn closed_with(error: LinkError) -> (CloseCode, String) {
    match error {
        LinkError::ClosedByPeer { code, reason } => (code, reason.to_string()),
        other => panic!("closed otherwise: {other}"),
    }
}

/// The error of something that must have failed.
#[track_caller]
pub fn cut<T: Debug>(result: Result<T, StreamError>) -> StreamError {
    result.expect_err("it must be an error, not an end in peace")
}

/// Bytes that look random and are the same in every run (xorshift).
pub fn noise(seed: u64, len: usize) -> bytes::Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..=len / 8).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes.into()
}

/// Compares without printing megabytes.
#[track_caller]
pub fn assert_same(got: &[u8], sent: &[u8]) {
    let first_difference = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!((got.len(), first_difference), (sent.len(), None));
}

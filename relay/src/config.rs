//! What a relay runs with. Checked before any socket is opened.
//!
//! What was typed and what the file says are [`Settings`](crate::command_line::Settings); [`Loaded`] has both as one,
//! and [`resolve`](resolve::resolve) makes a [`Config`] of it, or says everything that is wrong.

pub mod cluster;
pub mod example;
pub mod file;
pub mod live;
pub mod loaded;
pub mod problem;
pub mod resolve;

pub use cluster::ClusterConfig;
pub use live::{Live, Reload};
pub use loaded::{Given, Loaded, Origin};
pub use problem::{Problem, Problems};

use crate::{
    PagesSettings, command_line::values::LogFormat, downloads::Downloads, limits, metrics::MetricsSettings,
    session_log::SessionLogSettings, tls,
};
use converge_certs::Identity;
use converge_proto::RelayUrl;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A relay's configuration.
#[derive(Debug)]
pub struct Config {
    /// One port number for UDP (QUIC) and TCP (HTTPS and WebSocket). Port 0: any that is free for both.
    pub listen: SocketAddr,
    /// A cleartext HTTP listener, for use behind a balancer that ends TLS.
    pub http: Option<SocketAddr>,
    /// The certificate and key.
    pub identity: Identity,
    /// The URL under which people reach the relay, when it is not simply its address.
    pub public_url: Option<RelayUrl>,
    /// Where secrets are kept that are to outlive the relay's process; without it they are those of the certificate's key.
    pub state_dir: Option<PathBuf>,
    /// Where the certificate comes from, and so who renews it.
    pub certificate_source: tls::Source,
    /// How long browsers remember that this host is reached with TLS only, where an authority has issued the certificate;
    /// zero: not at all. Everything on this host then needs TLS for them, other ports included.
    pub hsts: Duration,
    /// Whether peers must pin the certificate, because no authority has issued it.
    pub self_signed: bool,
    /// Its place among relays that act as one, if it has one.
    pub cluster: Option<ClusterConfig>,
    /// The programs that people can download from it.
    pub downloads: Option<Downloads>,
    /// What pages show, and to whom.
    pub pages: PagesSettings,
    /// How long an ID stays reserved after its agent's link was lost.
    pub reservation: Duration,
    /// How long a peer may take for each of TLS handshake, HTTP header and first frame. Longer lets silent peers hold
    /// more of the connections there are; shorter loses peers on slow paths.
    pub first_word_timeout: Duration,
    /// Where metrics go.
    pub metrics: MetricsSettings,
    /// Where sessions are written down.
    pub session_log: Option<SessionLogSettings>,
    /// How the program writes its log.
    pub log_format: LogFormat,
    /// What can change while the relay runs.
    pub live: Live,
}

impl Config {
    /// A configuration with an identity, listening on `listen`.
    pub fn new(listen: SocketAddr, identity: Identity) -> Self {
        Self {
            listen,
            http: None,
            identity,
            public_url: None,
            state_dir: None,
            certificate_source: tls::Source::default(),
            hsts: tls::HSTS,
            self_signed: false,
            cluster: None,
            downloads: None,
            pages: PagesSettings::default(),
            reservation: limits::RESERVATION,
            first_word_timeout: limits::FIRST_WORD_TIMEOUT,
            metrics: MetricsSettings::default(),
            session_log: None,
            log_format: LogFormat::default(),
            live: Live::default(),
        }
    }
}

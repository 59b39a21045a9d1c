//! A relay as a whole: bind, run, stop.

use crate::{
    accept::{quic, tcp},
    config::{Config, Reload},
    limits,
    registry::MemoryRegistry,
    shared::Shared,
};
use converge_proto::{CertificatePin, RelayUrl};
use converge_transport::CloseCode;
use quinn::Endpoint;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How many ports are tried when any will do, until one is free on UDP and TCP.
const PORT_TRIES: usize = 16;
/// Connections that may wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// How long tasks may take to end after everything was cancelled: what they may take for their goodbyes, and a bit.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A relay whose sockets are bound.
pub struct Relay {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    https: TcpListener,
    http: Option<TcpListener>,
    tls: TlsAcceptor,
    reload: Reload,
    addresses: Addresses,
}

/// Where a relay listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// UDP and TCP.
    pub listen: SocketAddr,
    /// Cleartext HTTP.
    pub http: Option<SocketAddr>,
    /// What agents and people are to be given.
    pub url: RelayUrl,
}

/// How a relay stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every session had ended by itself.
    Clean,
    /// Sessions had to be cut when the time was over.
    SessionsCut,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({transport}): {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The certificate does not serve.
    #[error("cannot use the certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The addresses make no URL.
    #[error("cannot make a URL of {0}")]
    Url(SocketAddr),
}

impl Relay {
    /// Opens every socket. Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let (https, endpoint) = bind_both(&config)?;
        let listen = https.local_addr().map_err(|source| bind_error(config.listen, "tcp", source))?;
        let http = config.http.map(bind_tcp).transpose()?;
        let http_address = http.as_ref().and_then(|listener| listener.local_addr().ok());
        let tls = TlsAcceptor::from(Arc::new(config.identity.server_config(tcp::HTTPS_ALPN)?));
        let pin = config.self_signed.then(|| CertificatePin(config.identity.spki_sha256()));
        let own_url = own_url(listen, pin)?;
        let public_url =
            config.public_url.map(|url| if url.pin().is_none() { url.with_pin(pin) } else { url });
        let url = public_url.clone().unwrap_or_else(|| own_url.clone());
        let registry = Arc::new(MemoryRegistry::new(config.reservation, limits::MAX_AGENTS));
        let (reload, live) = Reload::new(config.live);
        let shared = Shared::new(registry, public_url, own_url, config.first_word_timeout, live);
        Ok(Self {
            shared: Arc::new(shared),
            endpoint,
            https,
            http,
            tls,
            reload,
            addresses: Addresses { listen, http: http_address, url },
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Changes what can change while it runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `stop`, then lets sessions end for the drain time, or until `stop_now`.
    pub async fn run(self, stop: CancellationToken, stop_now: CancellationToken) -> Stopped {
        let Self { shared, endpoint, https, http, tls, .. } = self;
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(quic::accept(shared.clone(), endpoint.clone()));
        accepting.spawn(tcp::accept(shared.clone(), https, Some(tls)));
        if let Some(http) = http {
            accepting.spawn(tcp::accept(shared.clone(), http, None));
        }
        stop.cancelled().await;

        info!(sessions = shared.sessions.len(), "stopping");
        shared.draining.cancel();
        accepting.join_all().await;
        shared.spawn(quic::refuse(shared.clone(), endpoint.clone()));
        shared.sessions.close();
        let drain_timeout = shared.live.borrow().drain_timeout;
        let stopped = tokio::select! {
            () = shared.sessions.wait() => Stopped::Clean,
            () = tokio::time::sleep(drain_timeout) => Stopped::SessionsCut,
            () = stop_now.cancelled() => Stopped::SessionsCut,
        };
        shared.ending.cancel();
        shared.tasks.close();
        if tokio::time::timeout(END_TIMEOUT, shared.tasks.wait()).await.is_err() {
            warn!(tasks = shared.tasks.len(), "tasks have not ended in time");
        }
        endpoint.close(CloseCode::STOPPING.0.into(), b"");
        // Peers that are gone do not answer; those that are there do so at once.
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        stopped
    }
}

/// TCP and UDP on one port number.
fn bind_both(config: &Config) -> Result<(TcpListener, Endpoint), BindError> {
    let mut tries = 0;
    loop {
        let tcp = bind_tcp(config.listen)?;
        let address = tcp.local_addr().map_err(|source| bind_error(config.listen, "tcp", source))?;
        match converge_transport::quic::listen(address, &config.identity) {
            Ok(endpoint) => return Ok((tcp, endpoint)),
            Err(source)
                if config.listen.port() == 0
                    && tries < PORT_TRIES
                    && source.kind() == io::ErrorKind::AddrInUse =>
            {
                tries += 1;
            }
            Err(source) => return Err(bind_error(address, "udp", source)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        // So that a relay can be started again while connections of the last one are still closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| bind_error(address, "tcp", source))
}

fn bind_error(address: SocketAddr, transport: &'static str, source: io::Error) -> BindError {
    BindError::Bind { address, transport, source }
}

/// The URL of an address as far as this machine can know: loopback when it listens everywhere.
fn own_url(listen: SocketAddr, pin: Option<CertificatePin>) -> Result<RelayUrl, BindError> {
    let host = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let url: RelayUrl = format!("https://{}", SocketAddr::new(host, listen.port()))
        .parse()
        .map_err(|_| BindError::Url(listen))?;
    Ok(url.with_pin(pin))
}

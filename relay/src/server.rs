//! A relay as a whole: bind, run, stop.

use crate::{
    accept::{metrics::accept as accept_metrics, quic, tcp},
    cluster::membership::Membership,
    config::{Config, Reload},
    directory::Directory,
    drain::Drain,
    http::{self, api::Api, pages::Pages},
    metrics::{self, Metrics, StatsDError},
    registry::{MemoryRegistry, Registry},
    session_log::{self, SessionLog, SessionLogSettings, Writer},
    shared::{Shared, Urls},
    sockets::{OpenSockets, Sockets},
    tls::{self, Tls},
};
use converge_proto::{CertificatePin, RelayUrl};
use converge_transport::{CloseCode, quic::ConnectionIds};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long tasks may take to end after everything was cancelled: what they may take for their goodbyes, and a bit.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A relay whose sockets are bound.
pub struct Relay {
    shared: Arc<Shared>,
    sockets: OpenSockets,
    tls: TlsAcceptor,
    reload: Reload,
    session_log: Option<Writer>,
    membership: Option<Membership>,
    addresses: Addresses,
}

/// Where a relay listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// UDP and TCP.
    pub listen: SocketAddr,
    /// Cleartext HTTP.
    pub http: Option<SocketAddr>,
    /// Cleartext HTTP for metrics alone.
    pub metrics: Option<SocketAddr>,
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
    #[error(
        "cannot listen on {address} ({transport}): {source}; choose another address with --listen, --http or --metrics"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The sockets of a service manager do not fit together.
    #[error("the passed sockets have different addresses, {tcp} (tcp) and {udp} (udp); one URL needs one")]
    Addresses {
        /// Of TCP.
        tcp: SocketAddr,
        /// Of UDP.
        udp: SocketAddr,
    },
    /// The port for the other relays cannot be bound.
    #[error(
        "cannot listen for other relays on {address} (udp): {source}; choose another address with --cluster-listen"
    )]
    Cluster {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The secret of the cluster does not serve.
    #[error("cannot make connection IDs of the cluster's secret; make the cluster's files anew")]
    ConnectionIds,
    /// The certificate does not serve.
    #[error("cannot use the certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// Metrics cannot be sent.
    #[error(transparent)]
    StatsD(#[from] StatsDError),
    /// The session log cannot be written.
    #[error("cannot write the session log {}: {source}; change --session-log", path.display())]
    SessionLog {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The addresses make no URL.
    #[error("cannot make a URL of {0}")]
    Url(SocketAddr),
}

/// Counts what is here now.
#[derive(Clone)]
pub struct Counts(Arc<Shared>);

impl Counts {
    /// Agents and sessions.
    pub fn now(&self) -> (usize, usize) {
        self.0.directory.counts()
    }

    /// The longest that it would take to let go of all of them.
    pub fn longest_drain(&self) -> Duration {
        Drain::of(&self.0).longest()
    }
}

impl Relay {
    /// Opens every socket. Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, Sockets::default())
    }

    /// The same with sockets that are there already; the others are opened.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind_with(mut config: Config, sockets: Sockets) -> Result<Self, BindError> {
        if let Some(Err(error)) = config.state_dir.as_deref().map(|dir| config.identity.keep_secret_in(dir)) {
            info!(%error, "after a restart with another key, links from before it are noticed as lost later");
        }
        let (reload, live) = Reload::new(config.live.clone());
        let membership = match &config.cluster {
            Some(cluster) => {
                config.identity = config.identity.with_cluster_secret(*cluster.identity.secret());
                let (identity, reservation) = (&config.identity, config.reservation);
                Some(Membership::open(cluster, identity, reservation, live.clone())?)
            }
            None => None,
        };
        let ids = membership
            .as_ref()
            .map_or(ConnectionIds::Own, |membership| ConnectionIds::Cluster(membership.crossing.clone()));
        let sockets = sockets.open(&config, &ids)?;
        let (listen, http, metrics) = (sockets.listen, sockets.http_address(), sockets.metrics_address());
        let own_tls = Tls::new(config.identity.clone(), config.certificate_source, config.hsts);
        let acceptor = config.identity.server_config(&own_tls.alpn(tcp::HTTPS_ALPN))?;
        let pin = config.self_signed.then(|| CertificatePin(config.identity.spki_sha256()));
        let own_url = own_url(listen, pin)?;
        let public_url = config.public_url.map(|url| public_url(url, pin, http.is_some()));
        let url = public_url.clone().unwrap_or_else(|| own_url.clone());
        let listening: Vec<_> = [listen].into_iter().chain(http).collect();
        let api = Api::new(&listening, public_url.is_some());
        let registry: Arc<dyn Registry> = match &membership {
            Some(membership) => Arc::new(membership.registry.clone()),
            None => Arc::new(MemoryRegistry::new(config.reservation, live.clone())),
        };
        let counters = Metrics::new(&config.metrics)?;
        let mut shared = Shared::new(
            registry,
            counters,
            api,
            Urls { public: public_url, own: own_url },
            own_tls,
            config.first_word_timeout,
            live,
        );
        let session_log = config.session_log.as_ref().map(open_log).transpose()?.map(|(log, writer)| {
            shared.directory = Directory::with_log(log);
            writer
        });
        shared.cluster = membership.as_ref().map(|membership| membership.cluster.clone());
        shared.downloads = config.downloads.map(Arc::new);
        shared.pages = Pages::new(config.pages, shared.relay_number());
        Ok(Self {
            shared: Arc::new(shared),
            sockets,
            tls: TlsAcceptor::from(Arc::new(acceptor)),
            reload,
            session_log,
            membership,
            addresses: Addresses { listen, http, metrics, url },
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How many are here, also while it runs.
    pub fn counts(&self) -> Counts {
        Counts(self.shared.clone())
    }

    /// Changes what can change while it runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `stop`, then lets sessions end for the drain time, or until `stop_now`.
    pub async fn run(self, stop: CancellationToken, stop_now: CancellationToken) -> Stopped {
        let Self { shared, sockets, tls, session_log, membership, .. } = self;
        let OpenSockets { endpoint, https, http: cleartext, metrics: for_metrics, newcomers, .. } = sockets;
        let mut accepting = tokio::task::JoinSet::new();
        shared.spawn(tls::look_after(shared.clone()));
        let counting = shared.clone();
        shared.spawn(async move { metrics::look_after(&counting).await });
        // It outlives the sessions, and has the last word.
        let no_more_lines = CancellationToken::new();
        let logging =
            session_log.map(|writer| tokio::spawn(writer.run(shared.live.clone(), no_more_lines.clone())));
        // The others hear from it last: what is here is to be found until the end.
        let no_more_following = CancellationToken::new();
        let following = membership.map(|membership| membership.start(&shared, no_more_following.clone()));
        accepting.spawn(quic::accept(shared.clone(), endpoint.clone()));
        let router = http::router(shared.clone());
        accepting.spawn(tcp::accept(shared.clone(), https, Some(tls), router.clone()));
        if let Some(cleartext) = cleartext {
            accepting.spawn(tcp::accept(shared.clone(), cleartext, None, router));
        }
        if let Some(for_metrics) = for_metrics {
            shared.spawn(accept_metrics(shared.clone(), for_metrics));
        }
        let showing = shared.clone();
        shared.spawn(async move { showing.pages.live.run(&showing).await });
        stop.cancelled().await;

        let drain = Drain::of(&shared);
        let (agents, _) = shared.directory.counts();
        info!(agents, sessions = shared.sessions.len(), longest = ?drain.longest(), "stopping");
        drain.begin(&shared);
        accepting.join_all().await;
        shared.spawn(quic::turn_away(shared.clone(), endpoint.clone(), newcomers));
        tokio::select! {
            () = drain.ended(&shared) => {}
            () = tokio::time::sleep(drain.longest()) => {}
            () = stop_now.cancelled() => {}
        }
        let stopped = if shared.sessions.is_empty() { Stopped::Clean } else { Stopped::SessionsCut };
        shared.ending.cancel();
        shared.tasks.close();
        if tokio::time::timeout(END_TIMEOUT, shared.tasks.wait()).await.is_err() {
            warn!(tasks = shared.tasks.len(), "tasks have not ended in time");
        }
        endpoint.close(CloseCode::STOPPING.0.into(), b"");
        no_more_following.cancel();
        if let Some(following) = following {
            following.ended().await;
        }
        no_more_lines.cancel();
        if let Some(mut logging) = logging
            && tokio::time::timeout(session_log::LAST_WORDS, &mut logging).await.is_err()
        {
            warn!("the session log is not written in time; its last lines are missing");
            logging.abort();
        }
        // Peers that are gone do not answer; those that are there do so at once.
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        stopped
    }
}

fn open_log(settings: &SessionLogSettings) -> Result<(SessionLog, Writer), BindError> {
    Writer::open(settings).map_err(|source| BindError::SessionLog { path: settings.path.clone(), source })
}

/// The URL for people as the operator has said it, with the pin of the relay's own certificate where that is what they see
/// there.
///
/// The cleartext listener is there for a balancer that ends TLS, and a path has to be taken off by one; a pin would then keep
/// everybody out. An operator who knows better writes the pin into the URL.
fn public_url(url: RelayUrl, own_pin: Option<CertificatePin>, has_cleartext: bool) -> RelayUrl {
    let Some(own_pin) = own_pin.filter(|_| url.pin().is_none() && url.has_tls()) else { return url };
    let is_at_root = url.path("") == "/";
    if is_at_root && !has_cleartext {
        return url.with_pin(Some(own_pin));
    }
    info!(
        %url,
        pin = %own_pin,
        "what is in front of --http, or takes the path off, is expected to end TLS for --public-url, so the URL has no pin; \
         where this relay ends it, write # and the pin behind --public-url"
    );
    url
}

/// The URL of an address as far as this machine can know: loopback when it listens everywhere.
fn own_url(listen: SocketAddr, pin: Option<CertificatePin>) -> Result<RelayUrl, BindError> {
    let host = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let url: RelayUrl = format!("https://{}", SocketAddr::new(host, listen.port()))
        .parse()
        .map_err(|_| BindError::Url(listen))?;
    Ok(url.with_pin(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_url_has_the_pin_of_what_people_see_there() {
        let pin = CertificatePin([7; 32]);
        let other = format!("https://relay:4433#{}", CertificatePin([8; 32]));
        for (url, own_pin, has_cleartext, is_pinned) in [
            ("https://relay:4433", Some(pin), false, true),
            // Ports that are passed on as they are need not have the same number.
            ("https://relay", Some(pin), false, true),
            ("wss://relay", Some(pin), false, true),
            ("https://relay", Some(pin), true, false),
            ("https://relay:4433", Some(pin), true, false),
            ("https://relay/sub", Some(pin), false, false),
            ("ws://relay", Some(pin), false, false),
            ("https://relay", None, false, false),
        ] {
            let made = public_url(url.parse().unwrap(), own_pin, has_cleartext);
            assert_eq!(made.pin(), is_pinned.then_some(pin), "{url}, cleartext: {has_cleartext}");
            assert_eq!(made.with_pin(None).to_string(), url);
        }
        for has_cleartext in [false, true] {
            let made = public_url(other.parse().unwrap(), Some(pin), has_cleartext);
            assert_eq!(made.to_string(), other, "what the operator has said counts");
        }
    }
}

//! Making a link to a relay's URL.
//!
//! With `https://` QUIC begins and WebSocket follows after a head start (`race`); whichever is ready first is the link,
//! and the next time WebSocket begins too where it won (`memory`). Of several relays any will do (`any`); which is
//! dialed first is a matter of chance and of what happened before (`choice`). WebSocket may go through a proxy (`tunnel`), QUIC
//! never does. [`probe`] takes the same steps one by one, to tell a person which of them fails; [`web`] goes the same way
//! to servers that are no relays, and [`http`] to a relay's API.

mod any;
mod choice;
mod failure;
pub mod http;
mod memory;
pub mod probe;
mod race;
mod resolve;
pub mod tcp;
mod tunnel;
mod upgrade;
pub mod web;

pub use any::dial_any;
pub use choice::{AWAY_FOR, RelayMemory, RelayPlace};
pub(crate) use failure::refused_certificate;
pub use failure::{DialError, Failure};
pub use memory::CarrierMemory;

use crate::{
    close::LinkError,
    link::{Carrier, Link},
    proxy::{ProxyChoice, ProxyUrl, UnusableProxy},
    quic,
    websocket::{
        self, BoxedIo, Framing,
        mux::{MuxLink, Side},
    },
};
use converge_certs::{Certificate, IdentityError, Trust, TrustConfig};
use converge_proto::{Address, CarrierChoice, Id, RelayUrl, rendezvous::Token};
use failure::Cause;
use memory::LocalNetwork;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// How long one carrier may take, from the first packet to the link.
pub const CARRIER_TIMEOUT: Duration = Duration::from_secs(10);
pub use race::{HEAD_START, NEXT_RELAY};
/// Dials in progress in this process; more wait for their turn. A relay that comes back after an outage is not to get
/// the handshakes of hundreds of sessions at once from one host.
const MAX_DIALS: usize = 8;
static DIALS: Semaphore = Semaphore::const_new(MAX_DIALS);
/// Where a relay says which versions it speaks, when it speaks none of ours.
pub const VERSIONS_HEADER: &str = "converge-versions";
/// In a relay's answer to an opening handshake that met a limit: what the person is to be told.
pub const REFUSED_HEADER: &str = "converge-refused";

/// Who dials, which decides the path on WebSocket.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// An agent: a link with many streams.
    Agent,
    /// A client of the agent with this ID: on WebSocket a link with one stream.
    Client(&'a Id),
    /// A client that speaks no frames, as a foreign tool would: WebSocket only, a link with one stream of SSH bytes. The token
    /// goes into the opening handshake.
    RawClient(&'a Id, Option<&'a Token>),
}

/// How to dial.
#[derive(Clone, Debug, Default)]
pub struct DialOptions {
    /// Accept any certificate. Whoever is in between can then be the relay.
    pub insecure: bool,
    /// What is shown to a relay that asks who we are; it believes it if an authority of its own has issued it.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxy WebSockets go through. QUIC never goes through one.
    pub proxy: ProxyChoice,
    /// What was ready first the last time; without it QUIC always has its head start.
    pub memory: Option<Arc<CarrierMemory>>,
    /// Which relays work, and which have just said that they stop. Shared by the dials that are to learn from each other.
    pub relays: Arc<RelayMemory>,
}

/// The files of a client certificate, in PEM. They are read for each dial, so that one that lives shorter than a job can
/// be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl ClientCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn read(&self) -> Result<Certificate, IdentityError> {
        Certificate::from_files(&self.certificate, &self.key)
    }
}

/// Makes a link to the relay over the carriers its URL allows. At most eight dials of a process are in progress at once;
/// more wait. Dropped, it leaves nothing behind.
///
/// # Errors
/// [`DialError`], which says what each carrier met.
pub async fn dial(relay: &RelayUrl, options: &DialOptions, role: Role<'_>) -> Result<Link, DialError> {
    // The semaphore is never closed.
    let _turn = DIALS.acquire().await;
    dial_one(relay, options, role).await
}

async fn dial_one(relay: &RelayUrl, options: &DialOptions, role: Role<'_>) -> Result<Link, DialError> {
    let trust = trust_config(relay, options)?;
    let route = Route::of(relay, &options.proxy, resolve::of_relay(relay, &options.relays)).await?;
    let dialing = Dialing { relay, role, trust: &trust, route: &route, memory: &options.relays };
    // Boxed: together they are larger than what a caller should carry around in its own future.
    let quic = limited(Carrier::Quic, Box::pin(dialing.quic()));
    let websocket = limited(Carrier::WebSocket, Box::pin(dialing.websocket()));
    let carriers = match role {
        Role::RawClient(..) => CarrierChoice::WebSocket,
        Role::Agent | Role::Client(_) => relay.carriers(),
    };
    let link = match carriers {
        CarrierChoice::Quic => quic.await.map_err(|failure| vec![failure]),
        CarrierChoice::WebSocket => websocket.await.map_err(|failure| vec![failure]),
        CarrierChoice::Auto => {
            let memory = options.memory.as_ref().zip(route.network());
            let last = memory.and_then(|(memory, network)| memory.recall(network, relay));
            let head_start = if last == Some(Carrier::WebSocket) { Duration::ZERO } else { HEAD_START };
            let raced = race::carriers(quic, websocket, head_start).await;
            if let (Ok(link), Some((memory, network))) = (&raced, memory) {
                remember(memory, network, relay, link.carrier());
            }
            raced.map(Link::won_race).map_err(|(first, second)| {
                let silent = Failure { carrier: Carrier::Quic, cause: Cause::Silent };
                vec![first.unwrap_or(silent), second]
            })
        }
    };
    link.map_err(|failures| DialError::of(relay, failures, trust.failure()))
}

/// What makes this relay's certificate acceptable.
fn trust_in(relay: &RelayUrl, options: &DialOptions) -> Trust {
    match (options.insecure, relay.pin()) {
        (true, _) => Trust::Insecure,
        (false, Some(pin)) => Trust::Pin(pin.0),
        (false, None) => Trust::System,
    }
}

/// What the TLS of a dial to this relay is made with.
fn trust_config(relay: &RelayUrl, options: &DialOptions) -> Result<TrustConfig, DialError> {
    let trust = TrustConfig::new(trust_in(relay, options));
    let trust = trust.map_err(|error| DialError::Setup(error.to_string()))?;
    let shown = options.client_certificate.as_ref().map(ClientCertificate::read).transpose();
    Ok(trust.showing(shown.map_err(|error| DialError::ClientCertificate(error.to_string()))?))
}

/// The file, if there is one, is written beside the session that begins: it may be on a slow disk.
fn remember(memory: &Arc<CarrierMemory>, network: LocalNetwork, relay: &RelayUrl, carrier: Carrier) {
    if memory.note(network, relay, carrier) {
        let (memory, relay) = (memory.clone(), relay.clone());
        tokio::task::spawn_blocking(move || memory.keep(network, &relay, carrier));
    }
}

/// How packets get to the relay.
enum Route<'a> {
    /// To these addresses.
    Direct(Vec<SocketAddr>),
    /// WebSocket through a proxy, which knows the relay's name even if we do not.
    Through(&'a ProxyUrl),
    /// The environment names a proxy that cannot be used.
    Unusable(UnusableProxy),
}

impl<'a> Route<'a> {
    /// `resolving` gives the addresses; it is not begun where only a proxy needs them.
    async fn of(
        relay: &RelayUrl,
        proxy: &'a ProxyChoice,
        resolving: impl Future<Output = Result<Vec<SocketAddr>, String>>,
    ) -> Result<Self, DialError> {
        match proxy.proxy_for(relay) {
            Ok(Some(proxy)) => Ok(Self::Through(proxy)),
            Ok(None) => match resolving.await {
                Ok(addresses) => Ok(Self::Direct(addresses)),
                Err(detail) => Err(DialError::Resolve { host: relay.host(), detail }),
            },
            Err(unusable) => Ok(Self::Unusable(unusable)),
        }
    }

    /// The network that we are in, as far as the choice of a carrier is concerned.
    fn network(&self) -> Option<LocalNetwork> {
        match self {
            Self::Direct(addresses) => addresses.first().and_then(|address| LocalNetwork::towards(*address)),
            Self::Through(_) | Self::Unusable(_) => LocalNetwork::of_the_default_route(),
        }
    }
}

async fn limited(
    carrier: Carrier,
    dialing: impl Future<Output = Result<Link, Cause>>,
) -> Result<Link, Failure> {
    match tokio::time::timeout(CARRIER_TIMEOUT, dialing).await {
        Ok(result) => result.map_err(|cause| Failure { carrier, cause }),
        Err(_) => Err(Failure { carrier, cause: Cause::Silent }),
    }
}

/// One dial: what both carriers need to know.
struct Dialing<'a> {
    relay: &'a RelayUrl,
    role: Role<'a>,
    trust: &'a TrustConfig,
    route: &'a Route<'a>,
    memory: &'a RelayMemory,
}

impl Dialing<'_> {
    async fn quic(&self) -> Result<Link, Cause> {
        let host = self.relay.host();
        let resolved;
        let addresses = match self.route {
            Route::Direct(addresses) => addresses,
            Route::Through(_) | Route::Unusable(_) => {
                resolved = resolve::of_relay(self.relay, self.memory).await.map_err(Cause::Resolve)?;
                &resolved
            }
        };
        let tls = self.trust.client_config(&quic::client_alpn()).map_err(|error| Cause::other(&error))?;
        let config = quic::client_config(tls)?;
        let config = &config;
        let host = &host;
        let dialing = race::addresses(addresses, |address| async move {
            let link = quic_address(address, config, host).await;
            link.inspect_err(|_| self.memory.leave_address(address))
                .map(|link| self.placed(link, Some(address)))
        });
        dialing.await.map_err(Cause::most_telling)
    }

    async fn websocket(&self) -> Result<Link, Cause> {
        let mut address = None;
        let io: BoxedIo = match self.route {
            Route::Direct(addresses) => {
                let stream = tcp::connect_to_relay(addresses, self.memory).await?;
                address = stream.peer_addr().ok();
                Box::new(stream)
            }
            Route::Through(proxy) => tunnel::connect(proxy, self.relay).await?,
            Route::Unusable(unusable) => return Err(Cause::UnusableProxy(unusable.clone())),
        };
        let (io, exporter) = tcp::secure(self.relay, io, self.trust).await?;
        let (path, framing, token) = match self.role {
            Role::Agent => ("agent".to_owned(), Framing::Converge, None),
            Role::Client(id) => (format!("{}/{id}", Address::CLIENT_PATH), Framing::Converge, None),
            Role::RawClient(id, token) => (format!("{}/{id}", Address::CLIENT_PATH), Framing::Raw, token),
        };
        let (websocket, _) = upgrade::open(self.relay, &path, framing, token, io)
            .await
            .map_err(|error| upgrade::failure(error, framing))?;
        let (sender, receiver) = websocket::split(websocket, framing);
        let link = match self.role {
            Role::Agent => Link::multiplexed(MuxLink::start(sender, receiver, Side::Dialing), exporter),
            Role::Client(_) | Role::RawClient(..) => Link::single(sender, receiver),
        };
        Ok(self.placed(link, address))
    }

    fn placed(&self, link: Link, address: Option<SocketAddr>) -> Link {
        link.at(RelayPlace { relay: self.relay.clone(), address })
    }
}

async fn quic_address(address: SocketAddr, config: &quinn::ClientConfig, host: &str) -> Result<Link, Cause> {
    let (connection, endpoint) = quic_connection(address, config, host).await?;
    Ok(Link::quic(connection, Some(endpoint)))
}

/// A QUIC connection, after its handshake, and the endpoint that is its alone.
async fn quic_connection(
    address: SocketAddr,
    config: &quinn::ClientConfig,
    host: &str,
) -> Result<(quinn::Connection, quinn::Endpoint), Cause> {
    let endpoint = quic::dialing_endpoint(address)?;
    let connecting = endpoint.connect_with(config.clone(), address, host);
    let connection = connecting.map_err(|error| Cause::other(&error))?.await.map_err(|error| {
        if quic::is_version_mismatch(&error) {
            return Cause::Version { relay_speaks: None };
        }
        match quic::link_error(error) {
            LinkError::Silent => Cause::Silent,
            error => Cause::other(&error),
        }
    })?;
    Ok((connection, endpoint))
}

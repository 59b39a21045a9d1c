//! Making a link to a relay's URL.
//!
//! With `https://` QUIC is tried first. When it fails, or says nothing for a second, WebSocket is tried as well,
//! and whichever is ready first is the link.

mod memory;
pub mod tcp;

pub use memory::CarrierMemory;

use crate::{
    close::LinkError,
    link::{Carrier, Link},
    proxy::ProxyChoice,
    quic,
    stream::Stream,
    websocket::{
        self, Framing,
        mux::{MuxLink, Side},
    },
};
use converge_certs::{Trust, TrustConfig, TrustFailure};
use converge_proto::{Address, CarrierChoice, Id, RelayUrl, version::ProtocolVersion};
use futures_util::future::select_ok;
use http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest, error::ProtocolError};

/// How long QUIC may say nothing before WebSocket is tried beside it.
const QUIC_HEAD_START: Duration = Duration::from_secs(1);
/// How long one carrier may take, from the first packet to the link.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer QUIC may say nothing after WebSocket has failed: what keeps TCP out rarely lets UDP in.
const QUIC_LAST_CHANCE: Duration = Duration::from_secs(2);
/// How many addresses of a relay's name are tried, side by side.
const MAX_ADDRESSES: usize = 4;
/// Where a relay says which versions it speaks, when it speaks none of ours.
pub const VERSIONS_HEADER: &str = "converge-versions";

/// Who dials, which decides the path on WebSocket.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// An agent: a link with many streams.
    Agent,
    /// A client of the agent with this ID: on WebSocket a link with one stream.
    Client(&'a Id),
    /// A client that speaks no frames, as a foreign tool would: WebSocket only, a link with one stream of SSH bytes.
    RawClient(&'a Id),
}

/// How to dial.
#[derive(Clone, Debug, Default)]
pub struct DialOptions {
    /// Accept any certificate. Whoever is in between can then be the relay.
    pub insecure: bool,
    /// Which proxy WebSockets go through. QUIC never goes through one.
    pub proxy: ProxyChoice,
    /// What was ready first the last time; without it QUIC always has its head start.
    pub memory: Option<Arc<CarrierMemory>>,
}

/// Makes a link to the relay over the carriers its URL allows.
///
/// # Errors
/// [`DialError`], which says what each carrier met.
pub async fn dial(relay: &RelayUrl, options: &DialOptions, role: Role<'_>) -> Result<Link, DialError> {
    let trust = match (options.insecure, relay.pin()) {
        (true, _) => Trust::Insecure,
        (false, Some(pin)) => Trust::Pin(pin.0),
        (false, None) => Trust::System,
    };
    let trust = TrustConfig::new(trust).map_err(|error| DialError::Setup(error.to_string()))?;
    let addresses = resolve(relay).await?;
    let failed = |error: Failure| DialError::of(relay, vec![error], trust.failure());
    let carriers = match role {
        Role::RawClient(_) => CarrierChoice::WebSocket,
        Role::Agent | Role::Client(_) => relay.carriers(),
    };
    match carriers {
        CarrierChoice::Quic => {
            limited(Carrier::Quic, dial_quic(relay, &addresses, &trust)).await.map_err(failed)
        }
        CarrierChoice::WebSocket => {
            limited(Carrier::WebSocket, dial_websocket(relay, &addresses, &trust, role)).await.map_err(failed)
        }
        CarrierChoice::Auto => {
            let result = dial_either(relay, &addresses, &trust, role).await;
            result.map_err(|errors| DialError::of(relay, errors, trust.failure()))
        }
    }
}

async fn dial_either(
    relay: &RelayUrl,
    addresses: &[SocketAddr],
    trust: &TrustConfig,
    role: Role<'_>,
) -> Result<Link, Vec<Failure>> {
    let quic = limited(Carrier::Quic, dial_quic(relay, addresses, trust));
    let websocket = limited(Carrier::WebSocket, dial_websocket(relay, addresses, trust, role));
    tokio::pin!(quic, websocket);
    match tokio::time::timeout(QUIC_HEAD_START, &mut quic).await {
        Ok(Ok(link)) => return Ok(link),
        Ok(Err(failure)) => return websocket.await.map_err(|second| vec![failure, second]),
        Err(_) => tracing::debug!("QUIC is silent; trying WebSocket beside it"),
    }
    tokio::select! {
        result = &mut quic => match result {
            Ok(link) => Ok(link),
            Err(failure) => websocket.await.map_err(|second| vec![failure, second]),
        },
        result = &mut websocket => match result {
            Ok(link) => Ok(link),
            Err(failure) => match tokio::time::timeout(QUIC_LAST_CHANCE, quic).await {
                Ok(result) => result.map_err(|first| vec![first, failure]),
                Err(_) => Err(vec![Failure { carrier: Carrier::Quic, cause: Cause::Silent }, failure]),
            },
        },
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

async fn resolve(relay: &RelayUrl) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |detail: String| DialError::Resolve { host: relay.host(), detail };
    let looking_up = tokio::net::lookup_host((relay.host(), relay.port()));
    let found = tokio::time::timeout(CARRIER_TIMEOUT, looking_up).await;
    let found = found.map_err(|_| failed("the name server does not answer".to_owned()))?;
    let addresses: Vec<_> = found.map_err(|error| failed(error.to_string()))?.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(failed("the name has no address".to_owned()));
    }
    Ok(addresses)
}

async fn dial_quic(relay: &RelayUrl, addresses: &[SocketAddr], trust: &TrustConfig) -> Result<Link, Cause> {
    let tls = trust.client_config(&quic::client_alpn()).map_err(|error| Cause::Other(error.to_string()))?;
    let config = quic::client_config(tls)?;
    let host = relay.host();
    let attempts = addresses.iter().map(|address| Box::pin(dial_quic_address(*address, &config, &host)));
    select_ok(attempts).await.map(|(link, _)| link)
}

async fn dial_quic_address(
    address: SocketAddr,
    config: &quinn::ClientConfig,
    host: &str,
) -> Result<Link, Cause> {
    let endpoint = quic::dialing_endpoint(address)?;
    let connecting = endpoint.connect_with(config.clone(), address, host);
    let connection = connecting.map_err(|error| Cause::Other(error.to_string()))?.await.map_err(|error| {
        if quic::is_version_mismatch(&error) {
            return Cause::Version { relay_speaks: None };
        }
        match quic::link_error(error) {
            LinkError::Silent => Cause::Silent,
            error => Cause::Other(error.to_string()),
        }
    })?;
    Ok(Link::quic(connection, Some(endpoint)))
}

async fn dial_websocket(
    relay: &RelayUrl,
    addresses: &[SocketAddr],
    trust: &TrustConfig,
    role: Role<'_>,
) -> Result<Link, Cause> {
    let path = match role {
        Role::Agent => "agent".to_owned(),
        Role::Client(id) | Role::RawClient(id) => format!("{}/{id}", Address::CLIENT_PATH),
    };
    let (io, exporter) = tcp::connect(relay, addresses, trust).await?;
    let mut request = relay
        .with_scheme(relay.websocket_scheme(), &path)
        .into_client_request()
        .map_err(|error| Cause::Other(error.to_string()))?;
    let framing = match role {
        Role::RawClient(_) => Framing::Raw,
        Role::Agent | Role::Client(_) => Framing::Converge,
    };
    if framing == Framing::Converge {
        let offered = HeaderValue::from_static(ProtocolVersion::NEWEST.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    let opening = tokio_tungstenite::client_async_with_config(request, io, Some(websocket::config()));
    let (websocket, _) = opening.await.map_err(|error| upgrade_failure(error, framing))?;
    let (sender, receiver) = websocket::split(websocket, framing);
    Ok(match role {
        Role::Agent => Link::multiplexed(MuxLink::start(sender, receiver, Side::Dialing), exporter),
        Role::Client(_) | Role::RawClient(_) => Link::single(Stream::websocket(sender, receiver)),
    })
}

fn upgrade_failure(error: tungstenite::Error, framing: Framing) -> Cause {
    match error {
        // To our own clients a relay says so in a frame.
        tungstenite::Error::Http(response)
            if framing == Framing::Raw && response.status() == StatusCode::NOT_FOUND =>
        {
            Cause::NoSuchId
        }
        tungstenite::Error::Http(response) => {
            let versions =
                response.headers().get(VERSIONS_HEADER).and_then(|versions| versions.to_str().ok());
            match versions {
                Some(versions) => Cause::Version { relay_speaks: Some(versions.chars().take(100).collect()) },
                None => Cause::NotARelay(response.status()),
            }
        }
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Cause::NotARelay(StatusCode::SWITCHING_PROTOCOLS)
        }
        // Another protocol than HTTP, or an end in the middle of it.
        tungstenite::Error::Protocol(error) => Cause::Other(format!("the server is not a relay: {error}")),
        other => Cause::Other(other.to_string()),
    }
}

/// One carrier's failure.
#[derive(Debug)]
pub struct Failure {
    carrier: Carrier,
    cause: Cause,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// No answer in time.
    Silent,
    /// Nobody listens there, or nobody lets us through.
    Io(io::Error),
    /// An HTTP server that does not speak our WebSocket.
    NotARelay(StatusCode),
    /// The relay knows no such ID.
    NoSuchId,
    /// No common protocol version.
    Version { relay_speaks: Option<String> },
    /// What the library said.
    Other(String),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.carrier)?;
        match &self.cause {
            Cause::Silent => f.write_str("no answer"),
            Cause::Io(error) => write!(f, "{error}"),
            Cause::NotARelay(StatusCode::SWITCHING_PROTOCOLS) => {
                f.write_str("the server opens WebSockets but does not speak Converge")
            }
            Cause::NotARelay(status) => write!(f, "the server answers {status} and is not a relay"),
            Cause::NoSuchId => f.write_str("the relay has no agent with this ID"),
            Cause::Version { relay_speaks: Some(theirs) } => {
                write!(f, "the relay speaks {theirs}, this program {}", ProtocolVersion::list())
            }
            Cause::Version { relay_speaks: None } => {
                write!(f, "the relay speaks none of this program's versions ({})", ProtocolVersion::list())
            }
            Cause::Other(detail) => f.write_str(detail),
        }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The relay's name leads nowhere.
    #[error("cannot resolve {host}: {detail}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// The relay's certificate was not accepted.
    #[error("{failure}")]
    NotTrusted {
        /// Why.
        failure: TrustFailure,
    },
    /// Both sides are there and have no protocol version in common.
    #[error("{}", join(failures))]
    Version {
        /// What each carrier met.
        failures: Vec<Failure>,
    },
    /// A raw client's relay knows no such ID.
    #[error("the relay has no agent with this ID")]
    NoSuchId,
    /// No carrier got through.
    #[error("cannot reach {authority}: {}", join(failures))]
    Unreachable {
        /// The relay's host and port.
        authority: String,
        /// What each carrier met.
        failures: Vec<Failure>,
    },
    /// This side could not even begin.
    #[error("cannot prepare TLS: {0}")]
    Setup(String),
}

impl DialError {
    fn of(relay: &RelayUrl, failures: Vec<Failure>, trust: Option<TrustFailure>) -> Self {
        if let Some(failure) = trust {
            return Self::NotTrusted { failure };
        }
        if failures.iter().any(|failure| matches!(failure.cause, Cause::NoSuchId)) {
            return Self::NoSuchId;
        }
        if failures.iter().any(|failure| matches!(failure.cause, Cause::Version { .. })) {
            return Self::Version { failures };
        }
        Self::Unreachable { authority: format!("{}:{}", relay.host(), relay.port()), failures }
    }

    /// What the person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "check the relay's URL and this machine's name server",
            Self::NotTrusted { failure: TrustFailure::WrongPin } => {
                "copy the relay's URL again from where it was started; if it has not changed, somebody is in between"
            }
            Self::NotTrusted { failure: TrustFailure::NotTrusted(_) } => {
                "use the URL that the relay prints at its start: it carries the pin of a self-signed certificate"
            }
            Self::NoSuchId => "check the ID, and whether the job still runs",
            Self::Version { .. } => "upgrade the older of the two",
            Self::Unreachable { .. } => {
                "check that the relay runs there and that the network lets it through"
            }
            Self::Setup(_) => "this is a bug; please report it",
        }
    }
}

fn join(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

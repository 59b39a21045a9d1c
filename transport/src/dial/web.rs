//! A connection to a web server that is no relay, the way a WebSocket gets to a relay: directly, or through the proxy
//! that was chosen.

#[cfg(feature = "fetch")]
pub mod get;

use super::{
    CARRIER_TIMEOUT, Cause, Route,
    failure::ProxyProblem,
    resolve,
    tcp::{self, tls},
    tunnel,
};
use crate::{proxy::ProxyChoice, websocket::BoxedIo};
use converge_certs::{Trust, TrustConfig};
use converge_proto::RelayUrl;

/// A web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebServer {
    /// Its name or address, without brackets around IPv6.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Whether TLS is spoken. Its certificate has to lead to a root that is trusted; nothing switches that off.
    pub tls: bool,
}

/// Why there is no connection to a web server. The texts fit behind the server's URL and a colon.
#[derive(Debug, thiserror::Error)]
pub enum WebServerError {
    /// Its name leads nowhere.
    #[error("cannot resolve {host}: {detail}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// Nobody listens there, or nobody lets us through.
    #[error("cannot reach {host}: {detail}")]
    Unreachable {
        /// The name.
        host: String,
        /// What happened.
        detail: String,
    },
    /// The proxy does not lead there. Named without its password.
    #[error("{detail}")]
    Proxy {
        /// What the proxy does instead, and its name.
        detail: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Its certificate is not trusted.
    #[error("the certificate of {host} is not trusted: {detail}")]
    NotTrusted {
        /// The name.
        host: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Its TLS fails otherwise.
    #[error("no TLS with {host}: {detail}")]
    Tls {
        /// The name.
        host: String,
        /// What is wrong.
        detail: String,
    },
}

impl WebServerError {
    /// What the person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "check the name, or name a proxy with --proxy if this network has one",
            Self::Unreachable { .. } => {
                "check that the network lets it through, or name a proxy with --proxy if this network has one"
            }
            Self::Proxy { advice, .. } => advice,
            Self::Tls { .. } => "check the URL, and whether a proxy in between opens TLS",
            Self::NotTrusted { .. } => {
                "if its issuer is not the site's, somebody is in between, such as a proxy that opens TLS; a company's \
                 own root must be among those of the system (or in SSL_CERT_FILE)"
            }
        }
    }
}

/// Connects to a web server; with TLS, 1.2 or newer and without ALPN, where it has it. Takes at most ten seconds for each
/// of name, connection and TLS. Dropped, it leaves nothing behind.
///
/// # Errors
/// [`WebServerError`], for the person who named the server.
pub async fn connect(server: &WebServer, proxy: &ProxyChoice) -> Result<BoxedIo, WebServerError> {
    let trust = TrustConfig::new(Trust::System)
        .map_err(|error| WebServerError::Tls { host: server.host.clone(), detail: error.to_string() })?;
    connect_trusting(server, proxy, &trust).await
}

/// The same, with other roots than the system's alone.
///
/// # Errors
/// As above.
pub async fn connect_trusting(
    server: &WebServer,
    proxy: &ProxyChoice,
    trust: &TrustConfig,
) -> Result<BoxedIo, WebServerError> {
    let WebServer { host, port, tls: has_tls } = server;
    let unreachable = |detail: String| WebServerError::Unreachable { host: host.clone(), detail };
    // What is known of a relay here is where it is, which is all that routes and tunnels look at.
    let (scheme, shown) = (if *has_tls { "wss" } else { "ws" }, bracketed(host));
    let place: RelayUrl = format!("{scheme}://{shown}:{port}").parse().map_err(|_| {
        WebServerError::Resolve { host: host.clone(), detail: "not the name of a host".to_owned() }
    })?;
    let name = place.host();
    let route = Route::of(&place, proxy, resolve::addresses(&name, place.port()))
        .await
        .map_err(|error| WebServerError::Resolve { host: host.clone(), detail: resolver_detail(error) })?;
    let connecting = async {
        let io: BoxedIo = match &route {
            Route::Direct(addresses) => Box::new(tcp::connect(addresses).await?),
            Route::Through(proxy) => tunnel::connect(proxy, &place).await?,
            Route::Unusable(unusable) => return Err(Cause::UnusableProxy(unusable.clone())),
        };
        Ok(io)
    };
    let connected = tokio::time::timeout(CARRIER_TIMEOUT, connecting).await;
    let io = connected.unwrap_or(Err(Cause::Silent)).map_err(|cause| match &cause {
        Cause::Proxy { proxy, problem: ProxyProblem::Refuses(answer) } => WebServerError::Proxy {
            detail: format!("the proxy {proxy} does not connect us to {host}: {answer}"),
            advice: "ask who runs the proxy to let it through, or try without it: --proxy none",
        },
        Cause::Proxy { .. } | Cause::UnusableProxy(_) => {
            WebServerError::Proxy { detail: cause.to_string(), advice: cause.advice().unwrap_or_default() }
        }
        _ => unreachable(cause.to_string()),
    })?;
    if !has_tls {
        return Ok(io);
    }
    let failed = |detail: String| WebServerError::Tls { host: host.clone(), detail };
    let config = trust.foreign_client_config().map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(CARRIER_TIMEOUT, tls(io, host, config)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(match trust.failure() {
            Some(failure) => WebServerError::NotTrusted { host: host.clone(), detail: failure.why() },
            None => failed(error),
        }),
        Err(_) => Err(unreachable("no answer".to_owned())),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn resolver_detail(error: super::DialError) -> String {
    match error {
        super::DialError::Resolve { detail, .. } => detail,
        other => other.to_string(),
    }
}

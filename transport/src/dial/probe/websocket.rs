//! WebSocket: the TCP connection, TLS on it, and the opening handshake.

use super::{
    super::{
        Cause, DialError, DialOptions, failure::trust_advice, tcp, trust_config, trust_in, tunnel, upgrade,
    },
    Check, CheckName,
    clock::Told,
    report::Finding,
    version::Agreement,
};
use crate::{
    CloseCode,
    proxy::{ProxyRuling, UnusableProxy},
    websocket::{BoxedIo, Framing},
};
use converge_certs::{Trust, TrustConfig, TrustFailure, issuer_name};
use converge_proto::{CarrierChoice, RelayUrl};
use futures_util::future::join_all;
use http::HeaderMap;
use std::{io, net::SocketAddr, time::Duration};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};

/// How long each step may take; together less than 12 seconds.
const TCP_TIMEOUT: Duration = Duration::from_secs(4);
const TLS_TIMEOUT: Duration = Duration::from_secs(3);
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long asking for the time alone may take, where the other steps have failed.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// A closing handshake is polite, and not worth more than this.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// What to do where nothing was verified.
pub(super) const VERIFY: &str =
    "leave --insecure away, and use the URL that the relay prints at its start, which carries its pin";

pub(super) struct WebSocketChecks {
    pub(super) tcp: Check,
    pub(super) tls: Check,
    pub(super) upgrade: Check,
    pub(super) agreement: Option<Agreement>,
    pub(super) told: Option<Told>,
}

impl WebSocketChecks {
    fn new(tcp: Check) -> Self {
        Self {
            tcp,
            tls: Finding::skip("there is no TCP connection").at_once(CheckName::Tls),
            upgrade: Finding::skip("there is no connection to ask on").at_once(CheckName::WebSocket),
            agreement: None,
            told: None,
        }
    }

    fn skipped(why: &str) -> Self {
        Self::new(Finding::skip(why).at_once(CheckName::Tcp))
    }
}

pub(super) async fn checks(
    relay: &RelayUrl,
    options: &DialOptions,
    ruling: Result<ProxyRuling<'_>, UnusableProxy>,
    addresses: Option<&[SocketAddr]>,
) -> Result<WebSocketChecks, DialError> {
    if relay.carriers() == CarrierChoice::Quic {
        return Ok(WebSocketChecks::skipped("the URL or --transport allows QUIC only"));
    }
    let Ok(ruling) = ruling else { return Ok(WebSocketChecks::skipped("the proxy cannot be used")) };
    let begun = Instant::now();
    let Some((finding, connected)) = connect(relay, ruling, addresses).await else {
        return Ok(WebSocketChecks::skipped("there is no address to dial"));
    };
    let mut checks = WebSocketChecks::new(finding.since(CheckName::Tcp, begun));
    let Some(io) = connected else { return Ok(checks) };

    let begun = Instant::now();
    let trust = trust_config(relay, options)?;
    let (finding, secured) = secure(relay, options, &trust, io).await;
    checks.tls = finding.since(CheckName::Tls, begun);
    let Some(io) = secured else {
        checks.upgrade = Finding::skip("there is no TLS connection to ask on").at_once(CheckName::WebSocket);
        if trust.failure().is_some() {
            // A wrong clock may be why.
            let asking = timeout(CLOCK_TIMEOUT, ask_anybody_for_the_time(relay, ruling, addresses));
            checks.told = asking.await.ok().flatten();
        }
        return Ok(checks);
    };

    let begun = Instant::now();
    let opened = timeout(UPGRADE_TIMEOUT, upgrade::open(relay, "agent", Framing::Converge, None, io)).await;
    let finding = match opened {
        Ok(Ok((mut websocket, answer))) => {
            checks.told = Told::by(answer.headers(), !options.insecure);
            checks.agreement = Some(Agreement::Common);
            let frame = CloseFrame { code: CloseCode::DONE.to_websocket().into(), reason: "".into() };
            // The relay is told; whether it hears it changes nothing.
            let _ = timeout(CLOSE_TIMEOUT, websocket.close(Some(frame))).await;
            Finding::pass(format!("opened at {}", relay.path("agent")))
        }
        Ok(Err(error)) => {
            checks.told = headers(&error).and_then(|headers| Told::by(headers, !options.insecure));
            let cause = upgrade::failure(error, Framing::Converge);
            checks.agreement = Agreement::after(&cause);
            let advice = cause.advice().unwrap_or(
                "check host, port and path of the relay's URL; if they are right, a proxy on the way may know no \
                 WebSockets",
            );
            Finding::fail(cause.to_string(), advice)
        }
        Err(_) => Finding::fail(
            "the server does not answer the opening handshake",
            "check that it is a relay that listens on this port, and that no proxy on the way holds the answer back",
        ),
    };
    checks.upgrade = finding.since(CheckName::WebSocket, begun);
    Ok(checks)
}

/// A connection that leads to the relay; `None` when there is no address to dial.
async fn connect(
    relay: &RelayUrl,
    ruling: ProxyRuling<'_>,
    addresses: Option<&[SocketAddr]>,
) -> Option<(Finding, Option<BoxedIo>)> {
    if let Some(proxy) = ruling.proxy() {
        let connected = timeout(TCP_TIMEOUT, tunnel::connect(proxy, relay)).await;
        return Some(match connected.unwrap_or_else(|_| Err(Cause::silent_proxy(proxy))) {
            Ok(io) => (Finding::pass(format!("through the proxy {proxy}")), Some(io)),
            Err(cause) => (Finding::fail(cause.to_string(), cause.advice().unwrap_or(REACH)), None),
        });
    }
    Some(each_address(addresses?).await)
}

/// What to do where there is no TCP connection, in general.
const REACH: &str = "check host and port of the relay's URL, and that the relay runs there";

/// Tries every address, and keeps the first connection in their order.
async fn each_address(addresses: &[SocketAddr]) -> (Finding, Option<BoxedIo>) {
    let attempts = addresses.iter().map(|address| async move {
        let connecting = timeout(TCP_TIMEOUT, tcp::connect(std::slice::from_ref(address))).await;
        (*address, connecting.unwrap_or(Err(Cause::Silent)))
    });
    let (mut connected, mut causes, mut seen) = (None, Vec::new(), Vec::new());
    for (address, result) in join_all(attempts).await {
        match result {
            Ok(stream) => {
                seen.push(format!("{address} connected"));
                connected = connected.or(Some(Box::new(stream) as BoxedIo));
            }
            Err(cause) => {
                seen.push(format!("{address} {cause}"));
                causes.push(cause);
            }
        }
    }
    let seen = seen.join("; ");
    if connected.is_some() {
        return (Finding::pass(seen), connected);
    }
    let fix = match Cause::most_telling(causes) {
        Cause::Silent => {
            "a firewall drops it, or the host is down: check host and port of the relay's URL; where only a proxy leads \
             out, name it with HTTPS_PROXY or --proxy"
        }
        Cause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there: check host and port of the relay's URL, and that the relay runs"
        }
        _ => REACH,
    };
    (Finding::fail(seen, fix), None)
}

/// TLS, if the URL has it.
async fn secure(
    relay: &RelayUrl,
    options: &DialOptions,
    trust: &TrustConfig,
    io: BoxedIo,
) -> (Finding, Option<BoxedIo>) {
    if !relay.has_tls() {
        return (Finding::skip("ws:// has none; SSH inside is encrypted all the same"), Some(io));
    }
    let error = match handshake(relay, trust, io).await {
        Ok((io, issuer)) => return (trusted(trust_in(relay, options), issuer), Some(io)),
        Err(error) => error,
    };
    let finding = match trust.failure() {
        Some(failure @ TrustFailure::WrongPin { .. }) => {
            Finding::fail(failure.to_string(), trust_advice(&failure))
        }
        Some(failure) => Finding::fail(
            failure.to_string(),
            format!("{}; if it is about dates, look at the clock below", trust_advice(&failure)),
        ),
        None => Finding::fail(
            error,
            "check the port in the relay's URL, and whether a proxy that opens TLS is in between; a relay's cleartext \
             port wants ws://",
        ),
    };
    (finding, None)
}

async fn handshake(
    relay: &RelayUrl,
    trust: &TrustConfig,
    io: BoxedIo,
) -> Result<(BoxedIo, Option<String>), String> {
    let config = trust.client_config(&[b"http/1.1"]).map_err(|error| error.to_string())?;
    let stream = timeout(TLS_TIMEOUT, tcp::tls(io, &relay.host(), config)).await;
    let stream = stream.unwrap_or_else(|_| Err("no answer to the TLS handshake".to_owned()))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let issuer = certificates.and_then(<[_]>::first).and_then(issuer_name);
    Ok((Box::new(stream), issuer))
}

fn trusted(trust: Trust, issuer: Option<String>) -> Finding {
    let issuer = issuer.map(|name| format!(" (its issuer calls itself {name:?})")).unwrap_or_default();
    match trust {
        Trust::Pin(_) => Finding::pass("the certificate has the pinned key"),
        Trust::System => Finding::pass(format!("this system trusts the certificate{issuer}")),
        Trust::Insecure => Finding::warn(format!("the certificate was not verified{issuer}"), VERIFY),
    }
}

/// The time by whoever answers, whatever certificate it has: it is told nothing, and believed nothing else.
async fn ask_anybody_for_the_time(
    relay: &RelayUrl,
    ruling: ProxyRuling<'_>,
    addresses: Option<&[SocketAddr]>,
) -> Option<Told> {
    let io: BoxedIo = match ruling.proxy() {
        Some(proxy) => tunnel::connect(proxy, relay).await.ok()?,
        None => Box::new(tcp::connect(addresses?).await.ok()?),
    };
    let trust = TrustConfig::new(Trust::Insecure).ok()?;
    let (io, _) = handshake(relay, &trust, io).await.ok()?;
    match upgrade::open(relay, "healthz", Framing::Converge, None, io).await {
        Ok((_, answer)) => Told::by(answer.headers(), false),
        Err(error) => Told::by(headers(&error)?, false),
    }
}

fn headers(error: &tungstenite::Error) -> Option<&HeaderMap> {
    match error {
        tungstenite::Error::Http(answer) => Some(answer.headers()),
        _ => None,
    }
}

//! What gets through from here to a relay, step by step, in words for a person: `converge doctor`, and what an agent
//! prints that cannot reach its relay.
//!
//! The steps are those of [`dial`](super::dial()), taken one by one and on both carriers side by side, so that the failure
//! of one hides nothing of the other. Nothing is registered or asked for at the relay: a QUIC connection is closed without
//! a stream, a WebSocket as soon as it is open.

mod clock;
mod quic;
mod report;
mod table;
mod verdict;
mod version;
mod websocket;

pub use report::{Check, CheckName, Outcome, Report};
pub use verdict::Verdict;

use super::{DialError, DialOptions, resolve};
use converge_proto::{CarrierChoice, RelayUrl};
use report::Finding;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How long the name server may take. With the longest branch after it, all checks together stay below 15 seconds.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Takes every step towards the relay and tells what each met. At most about 15 seconds, whatever the network does.
/// Dropped, it leaves nothing behind.
///
/// # Errors
/// [`DialError::Setup`] when this side cannot even prepare TLS; everything else is in the report.
pub async fn probe(relay: &RelayUrl, options: &DialOptions) -> Result<Report, DialError> {
    let ruling = options.proxy.ruling(relay);
    let has_proxy = ruling.as_ref().is_ok_and(|ruling| ruling.proxy().is_some());
    let (dns, addresses) = names(relay, has_proxy).await;
    let proxy = match (&ruling, relay.carriers()) {
        (_, CarrierChoice::Quic) => Finding::skip("QUIC never goes through a proxy"),
        (Ok(ruling), _) => Finding::pass(ruling.to_string()),
        (Err(unusable), _) => Finding::fail(
            unusable.to_string(),
            "mend it, name another proxy with --proxy, or none with --proxy none",
        ),
    };
    let (quic, websocket) = tokio::join!(
        Box::pin(quic::checks(relay, options, addresses.as_deref())),
        Box::pin(websocket::checks(relay, options, ruling, addresses.as_deref())),
    );
    let (quic, websocket) = (quic?, websocket?);
    let version = version::judge([quic.agreement, websocket.agreement]);
    let checks = vec![
        dns,
        proxy.at_once(CheckName::Proxy),
        quic.handshake,
        quic.mtu,
        websocket.tcp,
        websocket.tls,
        websocket.upgrade,
        clock::judge(websocket.told).at_once(CheckName::Clock),
        version.at_once(CheckName::Version),
    ];
    Ok(Report::new(relay.clone(), checks))
}

/// The relay's addresses; `None` when its name leads nowhere.
async fn names(relay: &RelayUrl, has_proxy: bool) -> (Check, Option<Vec<SocketAddr>>) {
    let begun = Instant::now();
    let host = relay.host();
    let found = timeout(RESOLVE_TIMEOUT, resolve::addresses(&host, relay.port())).await;
    let found = found.unwrap_or_else(|_| Err("the name server does not answer".to_owned()));
    let finding = match &found {
        Ok(_) if host.parse::<IpAddr>().is_ok() => Finding::pass(format!("{host} is an address already")),
        Ok(addresses) => Finding::pass(
            addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", "),
        ),
        Err(detail) if has_proxy => Finding::warn(
            format!("cannot resolve {host}: {detail}; the proxy may know it"),
            "nothing, unless QUIC is wanted, which does not go through the proxy",
        ),
        Err(detail) => Finding::fail(
            format!("cannot resolve {host}: {detail}"),
            "check the relay's URL and this machine's name server; where only a proxy knows names, name it with \
             HTTPS_PROXY or --proxy",
        ),
    };
    (finding.since(CheckName::Dns, begun), found.ok())
}

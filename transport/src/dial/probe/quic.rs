//! QUIC: the handshake, and the size of packets that get through.

use super::{
    super::{Cause, DialError, DialOptions, failure::trust_advice, quic_connection, race, trust_config},
    Check, CheckName,
    report::Finding,
    version::Agreement,
};
use crate::{CloseCode, Link, quic};
use converge_certs::TrustConfig;
use converge_proto::{CarrierChoice, RelayUrl};
use quinn::{Connection, Endpoint};
use std::{convert::Infallible, io, net::SocketAddr, time::Duration};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

/// How long the handshake may take: five lost packets in a row.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer a handshake may take when something has refused UDP: it may have refused that one packet only.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// How long path MTU discovery may take.
const MTU_TIMEOUT: Duration = Duration::from_secs(3);
const MTU_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What every QUIC path must let through (RFC 9000 section 14).
const SMALLEST_MTU: u16 = 1200;
/// Discovery ends when it knows the size to this number of bytes (quinn's own step).
const MTU_STEP: u16 = 20;

pub(super) struct QuicChecks {
    pub(super) handshake: Check,
    pub(super) mtu: Check,
    pub(super) agreement: Option<Agreement>,
}

impl QuicChecks {
    fn skipped(why: &str) -> Self {
        Self { handshake: Finding::skip(why).at_once(CheckName::Quic), mtu: no_connection(), agreement: None }
    }
}

fn no_connection() -> Check {
    Finding::skip("there is no QUIC connection").at_once(CheckName::Mtu)
}

pub(super) async fn checks(
    relay: &RelayUrl,
    options: &DialOptions,
    addresses: Option<&[SocketAddr]>,
) -> Result<QuicChecks, DialError> {
    if relay.carriers() == CarrierChoice::WebSocket {
        return Ok(QuicChecks::skipped("the URL or --transport allows WebSocket only"));
    }
    let Some(addresses) = addresses else { return Ok(QuicChecks::skipped("there is no address to dial")) };
    let trust = trust_config(relay, options)?;
    let begun = Instant::now();
    let connected = timeout(HANDSHAKE_TIMEOUT, connect(relay, &trust, addresses)).await;
    let (connection, endpoint) = match connected.unwrap_or(Err(Cause::Silent)) {
        Ok(connected) => connected,
        Err(cause) => {
            let handshake = failed(relay, &cause, &trust).since(CheckName::Quic, begun);
            return Ok(QuicChecks { handshake, mtu: no_connection(), agreement: Agreement::after(&cause) });
        }
    };
    let seen = format!("handshake with {}", connection.remote_address());
    let handshake = if options.insecure {
        Finding::warn(format!("{seen}; its certificate was not verified"), super::websocket::VERIFY)
    } else {
        Finding::pass(seen)
    };
    let handshake = handshake.since(CheckName::Quic, begun);
    let begun = Instant::now();
    let mtu = judge_mtu(settled_mtu(&connection).await).since(CheckName::Mtu, begun);
    Link::quic(connection, Some(endpoint)).finish(CloseCode::DONE, "").await;
    Ok(QuicChecks { handshake, mtu, agreement: Some(Agreement::Common) })
}

async fn connect(
    relay: &RelayUrl,
    trust: &TrustConfig,
    addresses: &[SocketAddr],
) -> Result<(Connection, Endpoint), Cause> {
    let tls = trust.client_config(&quic::client_alpn()).map_err(|error| Cause::other(&error))?;
    let (config, host) = (quic::probing_config(tls)?, relay.host());
    let connecting = race::addresses(addresses, |address| {
        let connecting = quic_connection(address, &config, &host);
        async move {
            tokio::pin!(connecting);
            tokio::select! {
                biased; // A relay that answers counts more than what somebody on the way says.
                connected = &mut connecting => connected,
                error = refusal(address) => {
                    timeout(AFTER_REFUSAL, connecting).await.unwrap_or(Err(Cause::Io(error)))
                }
            }
        }
    });
    connecting.await.map_err(Cause::most_telling)
}

/// What the network says to one datagram that is no QUIC, which a relay drops; never, when it says nothing. A QUIC
/// endpoint serves many peers on one socket, and so does not hear of it.
async fn refusal(address: SocketAddr) -> io::Error {
    match send_and_listen(address).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn send_and_listen(address: SocketAddr) -> io::Result<Infallible> {
    let socket = UdpSocket::bind(quic::any_address(address)).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    loop {
        socket.recv(&mut [0; 16]).await?;
    }
}

fn failed(relay: &RelayUrl, cause: &Cause, trust: &TrustConfig) -> Finding {
    if let Some(failure) = trust.failure() {
        return Finding::fail(failure.to_string(), trust_advice(&failure));
    }
    let port = relay.port();
    match cause {
        Cause::Silent => Finding::fail(
            format!("no answer from UDP port {port}"),
            format!(
                "ask who runs this network, or the relay's firewall or balancer, to let UDP through to port {port}; \
                 without it sessions use WebSocket"
            ),
        ),
        Cause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Finding::fail(
            format!("nothing listens on UDP port {port} there, or a firewall refuses it"),
            format!(
                "check that the relay runs there; a balancer in front of it must pass on UDP port {port} as well as \
                 TCP"
            ),
        ),
        Cause::Io(error) => Finding::fail(error.to_string(), "check this machine's network and its routes"),
        cause => Finding::fail(
            cause.to_string(),
            cause.advice().unwrap_or("check that it is a relay that listens on this port"),
        ),
    }
}

/// What path MTU discovery has found when it is done, or has had its time.
async fn settled_mtu(connection: &Connection) -> u16 {
    let mtu = || connection.stats().path.current_mtu;
    let settled = async {
        while mtu() + MTU_STEP < quic::PROBE_MTU_UPPER_BOUND {
            sleep(MTU_LOOK_INTERVAL).await;
        }
    };
    // What has been found by then is what there is.
    let _ = timeout(MTU_TIMEOUT, settled).await;
    mtu()
}

fn judge_mtu(mtu: u16) -> Finding {
    if mtu > SMALLEST_MTU {
        Finding::pass(format!("packets of {mtu} bytes get through"))
    } else {
        Finding::warn(
            format!("only packets of {SMALLEST_MTU} bytes, the smallest that QUIC needs, get through"),
            "nothing must be done: transfers are slower than they could be; a tunnel or VPN on the way with a larger MTU \
             would help",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Outcome, *};

    #[test]
    fn smallest_mtu_is_worth_a_warning() {
        for (mtu, outcome) in [(1200, Outcome::Warn), (1201, Outcome::Pass), (1452, Outcome::Pass)] {
            assert_eq!(judge_mtu(mtu).at_once(CheckName::Mtu).outcome, outcome, "{mtu}");
        }
    }
}

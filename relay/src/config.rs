//! What a relay runs with. Checked before any socket is opened.

use crate::limits;
use converge_certs::Identity;
use converge_proto::RelayUrl;
use std::{net::SocketAddr, time::Duration};

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
    /// Whether peers must pin the certificate, because no authority has issued it.
    pub self_signed: bool,
    /// How long an ID stays reserved after its agent's link was lost.
    pub reservation: Duration,
    /// How long a peer may take for each of TLS handshake, HTTP header and first frame. Longer lets silent peers hold
    /// more of the connections there are; shorter loses peers on slow paths.
    pub first_word_timeout: Duration,
    /// How long sessions may go on after the relay was told to stop.
    pub drain_timeout: Duration,
}

impl Config {
    /// How long sessions may go on after the relay was told to stop, unless said otherwise.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

    /// A configuration with an identity, listening on `listen`.
    pub fn new(listen: SocketAddr, identity: Identity) -> Self {
        Self {
            listen,
            http: None,
            identity,
            public_url: None,
            self_signed: false,
            reservation: limits::RESERVATION,
            first_word_timeout: limits::FIRST_WORD_TIMEOUT,
            drain_timeout: Self::DRAIN_TIMEOUT,
        }
    }
}

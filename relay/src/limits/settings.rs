//! The limits that an operator can set, with defaults for one ordinary machine.

use ipnet::IpNet;
use std::net::IpAddr;

/// What a relay allows its peers. "Of one address" is one IPv4 address, or one /64 of IPv6. Where nothing else is said, 0
/// means no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time, TCP and QUIC together. Each has a descriptor (TCP) and some 10 to 60 KiB.
    pub connections: u32,
    /// Connections of one address. A company's runners may share one.
    pub connections_per_address: u32,
    /// Connections that may begin per second, of each of TCP, QUIC and requests through a proxy. A TLS handshake costs
    /// about a millisecond of one core. After a quiet time, four seconds' worth may come at once.
    pub handshake_rate: u32,
    /// The same of one address.
    pub handshake_rate_per_address: u32,
    /// QUIC handshakes under way; more are refused.
    pub handshakes: u32,
    /// QUIC handshakes under way beyond which every peer must show first that its address is its own (Retry); 0: always.
    pub retry_above: u32,
    /// Agents, with the IDs that are kept for agents that were lost.
    pub agents: u32,
    /// Agents of one address.
    pub agents_per_address: u32,
    /// Sessions in all. Each may hold what its windows allow, see docs/limits.md.
    pub sessions: u32,
    /// Sessions of one agent.
    pub sessions_per_agent: u32,
    /// Streams that a peer may have opened on one QUIC link. 0 is not allowed: nothing would go.
    pub streams_per_link: u32,
    /// Clients that wait for an agent.
    pub waiting_clients: u32,
    /// The same of one address.
    pub waiting_clients_per_address: u32,
    /// Browsers that watch the page of sessions live. Each holds a connection; the page itself is for everybody.
    pub watching_browsers: u32,
    /// The same of one address. A company's people may share one.
    pub watching_browsers_per_address: u32,
    /// Bytes per second of one session, in each direction.
    pub session_bytes_per_second: u64,
    /// Bytes per second of all sessions of one agent, in each direction, shared fairly.
    pub agent_bytes_per_second: u64,
    /// The header of one HTTP request, its URL included. At least 8 KiB.
    pub header_bytes: u32,
    /// The body of one HTTP request.
    pub body_bytes: u32,
    /// Who may say for whom it speaks.
    pub proxies: Proxies,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 1024,
            handshake_rate: 1000,
            handshake_rate_per_address: 100,
            handshakes: 1024,
            retry_above: 128,
            agents: 16_384,
            agents_per_address: 1024,
            sessions: 8192,
            sessions_per_agent: 512,
            streams_per_link: 32,
            waiting_clients: 4096,
            waiting_clients_per_address: 256,
            watching_browsers: 512,
            watching_browsers_per_address: 64,
            session_bytes_per_second: 0,
            agent_bytes_per_second: 0,
            header_bytes: 16 * 1024,
            body_bytes: 64 * 1024,
            proxies: Proxies::default(),
        }
    }
}

/// The proxies and balancers in front of the relay.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Their networks. Nobody else is believed.
    pub trusted: Vec<IpNet>,
    /// Whether their TCP connections begin with a PROXY protocol header.
    pub protocol: ProxyProtocol,
    /// The HTTP header in which they write for whom they speak.
    pub header: AddressHeader,
}

impl Proxies {
    /// Whether this address is one of theirs.
    pub fn are_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// Whether connections of trusted proxies begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Those that do; others are taken as they are.
    Optional,
    /// Always; others are closed.
    Required,
}

/// The HTTP header in which trusted proxies write for whom they speak. One of them only: a proxy that writes the one lets
/// its peers write the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressHeader {
    /// `X-Forwarded-For: 192.0.2.1`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.1` (RFC 7239)
    Forwarded,
}

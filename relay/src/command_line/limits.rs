//! `[limits]`: how much, how many, how long.

use super::{
    group::group,
    values::{self, Time},
};
use crate::limits::{AddressHeader, ProxyProtocol};
use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

/// `[limits]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Limits")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// After a signal to stop, let sessions go on for at most this long; a second signal stops at once
    #[arg(
        long,
        env = "CONVERGE_DRAIN_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub drain_timeout: Option<Time>,
    /// Agents and sessions per second that one of several relays lets go to the others when it stops; 0: all at once
    #[arg(
        long,
        env = "CONVERGE_DRAIN_RATE",
        value_name = "NUMBER",
        default_value = "500",
        hide_short_help = true
    )]
    pub drain_rate: Option<u32>,
    /// Networks of proxies and balancers in front of the relay that are believed for whom they speak
    #[arg(
        long,
        env = "CONVERGE_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ',',
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_texts")]
    pub trusted_proxy: Option<Vec<IpNet>>,
    /// Whether TCP connections of trusted proxies begin with a PROXY protocol header, version 1 or 2
    #[arg(
        long,
        env = "CONVERGE_PROXY_PROTOCOL",
        value_name = "MODE",
        default_value = "off",
        hide_short_help = true
    )]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The HTTP header in which trusted proxies write for whom they speak
    #[arg(
        long,
        env = "CONVERGE_PROXY_ADDRESS_HEADER",
        value_name = "HEADER",
        default_value = "x-forwarded-for",
        hide_short_help = true
    )]
    pub proxy_address_header: Option<AddressHeader>,
    /// Connections at the same time, TCP and QUIC together; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value = "16384",
        hide_short_help = true
    )]
    pub max_connections: Option<u32>,
    /// Connections of one IPv4 address or one IPv6 /64 at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "1024",
        hide_short_help = true
    )]
    pub max_connections_per_address: Option<u32>,
    /// Connections that may begin per second, four seconds' worth at once; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_HANDSHAKE_RATE",
        value_name = "NUMBER",
        default_value = "1000",
        hide_short_help = true
    )]
    pub handshake_rate: Option<u32>,
    /// Connections of one address that may begin per second, four seconds' worth at once; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_HANDSHAKE_RATE_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "100",
        hide_short_help = true
    )]
    pub handshake_rate_per_address: Option<u32>,
    /// QUIC handshakes under way at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_HANDSHAKES",
        value_name = "NUMBER",
        default_value = "1024",
        hide_short_help = true
    )]
    pub max_handshakes: Option<u32>,
    /// QUIC handshakes under way beyond which newcomers must show that their address is theirs; 0: always
    #[arg(
        long,
        env = "CONVERGE_RETRY_ABOVE",
        value_name = "NUMBER",
        default_value = "128",
        hide_short_help = true
    )]
    pub retry_above: Option<u32>,
    /// Agents at the same time, with the IDs kept for those that were lost; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_AGENTS",
        value_name = "NUMBER",
        default_value = "16384",
        hide_short_help = true
    )]
    pub max_agents: Option<u32>,
    /// Agents of one address at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_AGENTS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "1024",
        hide_short_help = true
    )]
    pub max_agents_per_address: Option<u32>,
    /// Sessions at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_SESSIONS",
        value_name = "NUMBER",
        default_value = "8192",
        hide_short_help = true
    )]
    pub max_sessions: Option<u32>,
    /// Sessions of one agent at the same time, at most 512
    #[arg(
        long,
        env = "CONVERGE_MAX_SESSIONS_PER_AGENT",
        value_name = "NUMBER",
        default_value = "512",
        hide_short_help = true
    )]
    pub max_sessions_per_agent: Option<u32>,
    /// Streams that a peer may have open on one QUIC link, at least 1
    #[arg(
        long,
        env = "CONVERGE_MAX_STREAMS_PER_LINK",
        value_name = "NUMBER",
        default_value = "32",
        hide_short_help = true
    )]
    pub max_streams_per_link: Option<u32>,
    /// Clients that wait for an agent at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_WAITING_CLIENTS",
        value_name = "NUMBER",
        default_value = "4096",
        hide_short_help = true
    )]
    pub max_waiting_clients: Option<u32>,
    /// Clients of one address that wait for an agent at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_WAITING_CLIENTS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "256",
        hide_short_help = true
    )]
    pub max_waiting_clients_per_address: Option<u32>,
    /// Browsers that watch the page of sessions live at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_WATCHING_BROWSERS",
        value_name = "NUMBER",
        default_value = "512",
        hide_short_help = true
    )]
    pub max_watching_browsers: Option<u32>,
    /// Browsers of one address that watch the page of sessions live at the same time; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_WATCHING_BROWSERS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "64",
        hide_short_help = true
    )]
    pub max_watching_browsers_per_address: Option<u32>,
    /// Bytes per second of one session, in each direction, at least 16384; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_SESSION_BYTES_PER_SECOND",
        value_name = "BYTES",
        default_value = "0",
        hide_short_help = true
    )]
    pub session_bytes_per_second: Option<u64>,
    /// Bytes per second of all sessions of one agent, in each direction, shared fairly, at least 16384; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_AGENT_BYTES_PER_SECOND",
        value_name = "BYTES",
        default_value = "0",
        hide_short_help = true
    )]
    pub agent_bytes_per_second: Option<u64>,
    /// Bytes of the header of one HTTP request, at least 8192
    #[arg(
        long,
        env = "CONVERGE_MAX_HEADER_BYTES",
        value_name = "BYTES",
        default_value = "16384",
        hide_short_help = true
    )]
    pub max_header_bytes: Option<u32>,
    /// Bytes of the body of one HTTP request; 0: no limit
    #[arg(
        long,
        env = "CONVERGE_MAX_BODY_BYTES",
        value_name = "BYTES",
        default_value = "65536",
        hide_short_help = true
    )]
    pub max_body_bytes: Option<u32>,
}

group!(
    Limits,
    "limits",
    live: [
        drain_timeout,
        drain_rate,
        trusted_proxy,
        proxy_protocol,
        proxy_address_header,
        max_connections,
        max_connections_per_address,
        handshake_rate,
        handshake_rate_per_address,
        max_handshakes,
        retry_above,
        max_agents,
        max_agents_per_address,
        max_sessions,
        max_sessions_per_agent,
        max_waiting_clients,
        max_waiting_clients_per_address,
        max_watching_browsers,
        max_watching_browsers_per_address,
        session_bytes_per_second,
        agent_bytes_per_second,
        max_header_bytes,
        max_body_bytes,
        max_streams_per_link,
    ],
    restart: []
);

//! Where metrics go.

use std::net::SocketAddr;

/// Where metrics can be read, and where they are sent.
#[derive(Clone, Debug, Default)]
pub struct MetricsSettings {
    /// A listener that serves them in cleartext to whoever reaches it; then they are nowhere else.
    pub listen: Option<SocketAddr>,
    /// A server that they are sent to.
    pub statsd: Option<StatsD>,
}

/// A `StatsD` server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsD {
    /// Its host name or IPv4 address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// What is before every name, with a dot between.
    pub namespace: Option<String>,
}

/// The port of `StatsD` servers.
pub const STATSD_PORT: u16 = 8125;

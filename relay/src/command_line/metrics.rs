//! `[metrics]`: what is counted, and where it can be read.

use super::group::group;
use clap::Args;
use serde::Deserialize;
use std::net::SocketAddr;

/// `[metrics]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Metrics")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Metrics {
    /// Serve metrics for Prometheus at /metrics here, in cleartext and to anybody; without it they are at the relay's own
    /// /metrics, for tokens with the scope metrics
    #[arg(long, env = "CONVERGE_METRICS", value_name = "ADDR", hide_short_help = true)]
    pub metrics: Option<SocketAddr>,
    /// Send metrics to this `StatsD` server, too
    #[arg(long, env = "CONVERGE_STATSD_HOST", value_name = "HOST", hide_short_help = true)]
    pub statsd_host: Option<String>,
    /// The UDP port of the `StatsD` server
    #[arg(
        long,
        env = "CONVERGE_STATSD_PORT",
        value_name = "PORT",
        default_value = "8125",
        hide_short_help = true
    )]
    pub statsd_port: Option<u16>,
    /// What stands before the names there, with a dot between
    #[arg(long, env = "CONVERGE_STATSD_NAMESPACE", value_name = "NAME", hide_short_help = true)]
    pub statsd_namespace: Option<String>,
}

group!(Metrics, "metrics", live: [], restart: [metrics, statsd_host, statsd_port, statsd_namespace]);

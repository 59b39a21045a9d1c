//! Metrics to a `StatsD` server, over UDP.
//!
//! Labels are tags in the form of `DogStatsD`, which Telegraf, Vector, the agent of Datadog and `statsd_exporter` read. A
//! thread of the exporter's own sends what has changed every ten seconds, and ends with the process.

use super::settings::StatsD;
use metrics_exporter_dogstatsd::{BuildError, DogStatsDBuilder, DogStatsDRecorder};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// How often what has changed is sent.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send metrics to {host}:{port}: {why}; change --statsd-host and --statsd-port")]
pub struct StatsDError {
    host: String,
    port: u16,
    why: String,
}

/// Sends to this server from now on. The name is looked up now and not again.
pub(super) fn recorder(server: &StatsD) -> Result<DogStatsDRecorder, StatsDError> {
    let StatsD { host, port, namespace } = server;
    let failed = |why: String| StatsDError { host: host.clone(), port: *port, why };
    let mut addresses =
        (host.as_str(), *port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    // The exporter's socket is one of IPv4.
    let address =
        addresses.find(SocketAddr::is_ipv4).ok_or_else(|| failed("it has no IPv4 address".to_owned()))?;
    let build = || {
        let builder = DogStatsDBuilder::default()
            .with_remote_address(address.to_string())?
            .with_flush_interval(INTERVAL)
            .with_telemetry(false)
            // Servers that are not Datadog's know no distributions.
            .send_histograms_as_distributions(false);
        match namespace {
            Some(namespace) => builder.set_global_prefix(namespace.clone()),
            None => builder,
        }
        .build()
    };
    build().map_err(|error: BuildError| failed(error.to_string()))
}

//! Metrics to a StatsD server, over UDP.
//!
//! Labels are tags in the form of DogStatsD, which Telegraf, Vector, the agent of Datadog and statsd_exporter read. A
//! thread of the exporter's own sends what has changed every ten seconds, and ends with the process.

use super::settings::StatsD;
use metrics_exporter_dogstatsd::{BuildError, DogStatsDBuilder, DogStatsDRecorder};
use std::time::Duration;

/// How often what has changed is sent.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send metrics to {host}:{port}: {source}; change --statsd-host and --statsd-port")]
pub struct StatsDError {
    host: String,
    port: u16,
    source: BuildError,
}

/// Sends to this server from now on. The name is looked up now and not again.
pub(super) fn recorder(server: &StatsD) -> Result<DogStatsDRecorder, StatsDError> {
    let StatsD { host, port, namespace } = server;
    let build = || {
        let builder = DogStatsDBuilder::default()
            .with_remote_address(format!("{host}:{port}"))?
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
    build().map_err(|source| StatsDError { host: host.clone(), port: *port, source })
}

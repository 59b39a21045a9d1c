//! How things are now, read from where it is known.

use super::{
    Metrics,
    catalogue::{
        ACCESS_REFUSED, AGENTS, CERTIFICATE_EXPIRY, CERTIFICATE_LIFETIME, CLUSTER_PACKETS,
        CLUSTER_REGISTRY_UP, CLUSTER_RELAYS, CONNECTIONS, LIMITS_HIT, LOG_LINES_DROPPED, Metric, SESSIONS,
        WAITING_CLIENTS, WATCHING_BROWSERS,
    },
};
use crate::shared::Shared;
use converge_transport::Carrier;
use std::{
    sync::PoisonError,
    time::{Duration, UNIX_EPOCH},
};

/// How often histograms are put in order, and what is sent is read.
const INTERVAL: Duration = Duration::from_secs(5);

/// Everything, as Prometheus reads it, at this moment.
pub(crate) fn text(shared: &Shared) -> String {
    collect(shared);
    shared.metrics.text()
}

/// Keeps the metrics in order until the relay ends.
pub(crate) async fn look_after(shared: &Shared) {
    let looking = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            if shared.metrics.is_sent {
                collect(shared);
            }
            shared.metrics.prometheus.run_upkeep();
        }
    };
    shared.ending.run_until_cancelled(looking).await;
}

fn collect(shared: &Shared) {
    let metrics = &shared.metrics;
    // One after the other: the StatsD exporter takes a total that is less than the last one for a reset.
    let _turn = metrics.collecting.lock().unwrap_or_else(PoisonError::into_inner);
    let here = shared.directory.population();
    for carrier in [Carrier::Quic, Carrier::WebSocket] {
        let label = carrier.name();
        set(metrics, &AGENTS, &[label], here.agents_on(carrier));
        set(metrics, &SESSIONS, &[label], here.sessions_on(carrier));
    }
    set(metrics, &CONNECTIONS, &[], shared.gate.connection_count());
    set(metrics, &WAITING_CLIENTS, &[], shared.gate.waiting_count());
    set(metrics, &WATCHING_BROWSERS, &[], shared.pages.live.watching());
    let packets = shared.cluster.as_ref().map_or(0, |cluster| cluster.packets());
    metrics.counter(&CLUSTER_PACKETS, &[]).absolute(packets);
    set(metrics, &CLUSTER_RELAYS, &[], shared.cluster.as_ref().map_or(0, |cluster| cluster.size()));
    set(metrics, &CLUSTER_REGISTRY_UP, &[], usize::from(shared.registry.is_up() && shared.cluster.is_some()));
    for (limit, count) in shared.gate.refusals.iter() {
        metrics.counter(&LIMITS_HIT, &[limit.name()]).absolute(count);
    }
    for (scope, reason, count) in shared.access.refused() {
        metrics.counter(&ACCESS_REFUSED, &[scope.name(), reason]).absolute(count);
    }
    metrics.counter(&LOG_LINES_DROPPED, &[]).absolute(shared.directory.session_log().dropped());
    let (expiry, lifetime) = shared.tls.validity();
    let expiry = expiry.duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics.gauge(&CERTIFICATE_EXPIRY, &[]).set(expiry.as_secs_f64());
    metrics.gauge(&CERTIFICATE_LIFETIME, &[]).set(lifetime.as_secs_f64());
    metrics.process.collect(&*metrics.recorder);
}

#[expect(clippy::cast_precision_loss)] // There are not 2^52 of anything.
fn set(metrics: &Metrics, metric: &Metric, values: &[&str], count: usize) {
    metrics.gauge(metric, values).set(count as f64);
}

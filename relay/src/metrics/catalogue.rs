//! Every metric of the relay: what it is called, what it counts, and by what.
//!
//! `docs/operating/metrics.md` has the same as a table, and a test holds them together. Names follow Prometheus: base
//! units in the name, `_total` behind counters. No label has more than a few values, and none has one from a peer.

use crate::{
    access::{self, Scope},
    limits::Refusal,
};
use converge_proto::rendezvous::RefusalCode;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it is counted by.
    pub labels: &'static [Label],
    /// What it means, in one line.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, until the relay is started again.
    Counter,
    /// How it is now.
    Gauge,
    /// How often a value was at most so much; the bounds.
    Histogram(&'static [f64]),
}

/// A label, and the values that are shown from the start, so that what has not happened yet is 0 and not absent.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values; none where they are known only when they occur.
    pub values: fn() -> Vec<&'static str>,
}

const CARRIER: Label = Label { name: "carrier", values: || vec!["quic", "websocket"] };
const DIRECTION: Label = Label { name: "direction", values: || vec!["to_agent", "to_client"] };
const ROLE: Label = Label { name: "role", values: || vec!["agent", "client"] };
const SECURED_BY: Label = Label { name: "transport", values: || vec!["quic", "tls"] };
const HANDSHAKE_FAILURE: Label = Label { name: "reason", values: || vec!["failed", "silent"] };
const SESSION_END: Label =
    Label { name: "end", values: || vec!["done", "cut", "agent_lost", "relay_stopped"] };
const STATUS: Label = Label { name: "status", values: || vec!["1xx", "2xx", "3xx", "4xx", "5xx"] };
const LIMIT: Label =
    Label { name: "limit", values: || Refusal::ALL.iter().map(|refusal| refusal.name()).collect() };
const SCOPE: Label =
    Label { name: "scope", values: || Scope::ALL.iter().map(|scope| scope.name()).collect() };
const REGISTRATION: Label = Label { name: "result", values: || results(&["registered", "moved"]) };
const CONNECT: Label = Label { name: "result", values: || results(&["connected"]) };
const REASON: Label = Label { name: "reason", values: || access::Refusal::LABELS.to_vec() };
const VERSION: Label = Label { name: "version", values: Vec::new };
const PROTOCOL: Label = Label { name: "protocol", values: Vec::new };

/// From a round trip on one machine to what peers put up with, in seconds.
const LATENCY: Kind =
    Kind::Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
/// From a command to a day's work, in seconds.
const LENGTH: Kind =
    Kind::Histogram(&[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0]);

/// What an answer can be: these, or a refusal by its code.
fn results(good: &[&'static str]) -> Vec<&'static str> {
    let codes = RefusalCode::KNOWN.iter().map(|(_, name)| *name);
    good.iter().copied().chain(codes).chain([OTHER]).collect()
}

/// What codes of newer peers are counted as.
const OTHER: &str = "other";

/// The value of a `result` label for a refusal.
pub(crate) fn refused(code: RefusalCode) -> &'static str {
    RefusalCode::KNOWN.iter().find(|(known, _)| *known == code).map_or(OTHER, |(_, name)| name)
}

macro_rules! catalogue {
    ($($constant:ident $kind:expr, $name:literal [$($label:ident),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)+

        /// All of them, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

catalogue! {
    AGENTS Kind::Gauge, "converge_agents" [CARRIER]
        "Agents that are registered.";
    SESSIONS Kind::Gauge, "converge_sessions" [CARRIER]
        "Sessions, by the carrier of the client.";
    WAITING_CLIENTS Kind::Gauge, "converge_waiting_clients" []
        "Clients that wait for an agent that is not there yet.";
    CONNECTIONS Kind::Gauge, "converge_connections" []
        "Connections, TCP and QUIC, of anybody.";
    WATCHING_BROWSERS Kind::Gauge, "converge_watching_browsers" []
        "Browsers that follow the page of sessions.";
    BYTES Kind::Counter, "converge_session_bytes_total" [CARRIER, DIRECTION]
        "Bytes of sessions, by the carrier of the client.";
    REGISTRATIONS Kind::Counter, "converge_registrations_total" [CARRIER, REGISTRATION]
        "Registrations of agents: registered, moved (the agent was here, on another link), or the code of the refusal.";
    CONNECTS Kind::Counter, "converge_connects_total" [CARRIER, CONNECT]
        "Clients that asked for a session: connected, or the code of the refusal.";
    RESUMES Kind::Counter, "converge_resumes_total" [CARRIER]
        "Sessions that were there before and went on over another stream.";
    CARRIER_RACES Kind::Counter, "converge_carrier_races_total" [ROLE, CARRIER]
        "Links of peers that tried both carriers, by the one that was ready first; websocket is a fallback.";
    SESSION_ENDS Kind::Counter, "converge_session_ends_total" [SESSION_END]
        "Sessions that have ended here: done, cut (a stream broke; most go on elsewhere), and so on.";
    FORWARDED_BYTES Kind::Counter, "converge_forwarded_bytes_total" [DIRECTION]
        "Bytes of sessions whose agent is at another relay of the cluster, which counts them too, as its sessions.";
    CLUSTER_PACKETS Kind::Counter, "converge_cluster_packets_total" []
        "UDP packets of agents and clients that have come to this relay and were handed to the one whose they are.";
    CLUSTER_RELAYS Kind::Gauge, "converge_cluster_relays" []
        "Relays of the cluster that are there, with this one; 0 where there is no cluster.";
    CLUSTER_REGISTRY_UP Kind::Gauge, "converge_cluster_registry_up" []
        "1 while the cluster's registry answers; 0 while it does not, or there is no cluster.";
    HANDSHAKE_SECONDS LATENCY, "converge_handshake_seconds" [SECURED_BY]
        "From when a connection is accepted to the end of its TLS handshake.";
    HANDSHAKE_FAILURES Kind::Counter, "converge_handshake_failures_total" [SECURED_BY, HANDSHAKE_FAILURE]
        "TLS handshakes that came to nothing.";
    PAIRING_SECONDS LATENCY, "converge_pairing_seconds" [CARRIER]
        "From a client's question, with the agent there, to its answer.";
    SESSION_SECONDS LENGTH, "converge_session_seconds" [CARRIER]
        "How long sessions lasted, on one stream each.";
    LIMITS_HIT Kind::Counter, "converge_limits_hit_total" [LIMIT]
        "Peers that met a limit.";
    ACCESS_REFUSED Kind::Counter, "converge_access_refused_total" [SCOPE, REASON]
        "Peers that were not let in, by what they wanted.";
    HTTP_REQUESTS Kind::Counter, "converge_http_requests_total" [STATUS]
        "Answers to HTTP requests; 1xx are WebSockets.";
    LOG_LINES_DROPPED Kind::Counter, "converge_session_log_dropped_total" []
        "Lines of the session log that could not be written.";
    CERTIFICATE_EXPIRY Kind::Gauge, "converge_certificate_expiry_timestamp_seconds" []
        "When the certificate that is shown now expires, in seconds since 1970.";
    CERTIFICATE_LIFETIME Kind::Gauge, "converge_certificate_lifetime_seconds" []
        "How long that certificate is valid in all.";
    BUILD_INFO Kind::Gauge, "converge_build_info" [VERSION, PROTOCOL]
        "1; the labels say which program this is.";
}

/// What the crate that knows about processes adds, where the system tells it.
pub const OF_THE_PROCESS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
];

impl Metric {
    /// Every combination of values that is known beforehand; none where one of the labels has no such values.
    pub(crate) fn known_series(&self) -> Vec<Vec<&'static str>> {
        self.labels.iter().fold(vec![Vec::new()], |series, label| {
            let longer = |before: &Vec<&'static str>| {
                let before = before.clone();
                (label.values)().into_iter().map(move |value| before.iter().copied().chain([value]).collect())
            };
            series.iter().flat_map(longer).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names = BTreeSet::new();
        for Metric { name, kind, help, labels } in ALL {
            assert!(names.insert(name), "{name} is there twice");
            assert!(
                name.starts_with("converge_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            if let Kind::Histogram(bounds) = kind {
                assert!(name.ends_with("_seconds") && bounds.is_sorted(), "{name}");
            }
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            assert!(labels.iter().all(|label| !["le", "quantile", "job", "instance"].contains(&label.name)));
        }
    }

    #[test]
    fn series_are_all_combinations_of_known_values() {
        let (quic, websocket) = ("quic", "websocket");
        assert_eq!(AGENTS.known_series(), [[quic], [websocket]]);
        assert_eq!(BYTES.known_series().len(), 4);
        assert_eq!(CONNECTIONS.known_series(), [[""; 0]]);
        assert!(BUILD_INFO.known_series().is_empty());
        assert_eq!(ACCESS_REFUSED.known_series().len(), Scope::ALL.len() * access::Refusal::LABELS.len());
        assert!(CONNECTS.known_series().contains(&vec![websocket, "no_such_id"]));
        assert_eq!(refused(RefusalCode(99)), "other");
    }

    #[test]
    fn documentation_has_each_metric_as_it_is() {
        let page = include_str!("../../../docs/operating/metrics.md");
        for Metric { name, kind, labels, help } in ALL {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<_> = labels.iter().map(|label| label.name).collect();
            let row = format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "));
            assert!(page.contains(&row), "docs/operating/metrics.md lacks:\n{row}");
        }
        for name in OF_THE_PROCESS {
            assert!(page.contains(&format!("`{name}`")), "docs/operating/metrics.md lacks {name}");
        }
        for refusal in Refusal::ALL {
            assert!(page.contains(&format!("| `{}` |", refusal.name())), "no limit {}", refusal.name());
        }
        let documented = page.lines().filter(|line| line.starts_with("| `converge_")).count();
        assert_eq!(documented, ALL.len(), "the page has a metric that is none");
    }
}

//! What is counted: how it is called ([`catalogue`]), who counts it, and how it gets out.
//!
//! Each relay has counters of its own, so several in one process do not mix theirs. What happens is counted where it
//! happens; how things are now is read from where it is known when somebody asks (`collect`).

pub mod catalogue;
pub mod settings;

mod both;
mod collect;
mod events;
mod process;
mod statsd;

pub(crate) use collect::{look_after, text};
pub(crate) use events::{End, ForwardCounters, Secured, SessionCounters};
pub use settings::{MetricsSettings, StatsD};
pub(crate) use statsd::StatsDError;

use both::Both;
use catalogue::{Kind, Metric};
use converge_proto::version::ProtocolVersion;
use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use process::Process;
use std::{fmt, sync::Mutex};

/// The content type of [`Metrics::text`].
pub(crate) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

static METADATA: Metadata<'static> = Metadata::new("converge_relay", Level::INFO, None);

/// The counters of one relay.
pub(crate) struct Metrics {
    recorder: Box<dyn Recorder + Send + Sync>,
    prometheus: PrometheusHandle,
    process: Process,
    is_sent: bool,
    has_own_listener: bool,
    /// Held by who reads how things are.
    collecting: Mutex<()>,
}

impl Metrics {
    /// Counters at zero.
    ///
    /// # Errors
    /// [`StatsDError`].
    pub(crate) fn new(settings: &MetricsSettings) -> Result<Self, StatsDError> {
        let prometheus = prometheus().build_recorder();
        let handle = prometheus.handle();
        let recorder: Box<dyn Recorder + Send + Sync> = match &settings.statsd {
            None => Box::new(prometheus),
            Some(server) => Box::new(Both(prometheus, statsd::recorder(server)?)),
        };
        let metrics = Self {
            recorder,
            prometheus: handle,
            process: Process::default(),
            is_sent: settings.statsd.is_some(),
            has_own_listener: settings.listen.is_some(),
            collecting: Mutex::default(),
        };
        metrics.describe();
        Ok(metrics)
    }

    /// Says what each is, and shows from the start what can be shown.
    fn describe(&self) {
        for metric in catalogue::ALL {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                Kind::Counter => self.recorder.describe_counter(name, None, help),
                Kind::Gauge => self.recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => self.recorder.describe_histogram(name, None, help),
            }
            for values in metric.known_series() {
                match metric.kind {
                    Kind::Counter => self.counter(metric, &values).increment(0),
                    Kind::Gauge => self.gauge(metric, &values).set(0.0),
                    // It would be shown empty, as what was never asked.
                    Kind::Histogram(_) => {}
                }
            }
        }
        self.process.describe(&*self.recorder);
        let protocol = ProtocolVersion::list();
        self.gauge(&catalogue::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &protocol]).set(1.0);
    }

    /// The counter with these values of its labels, in their order. Takes a look-up; keep it where there is haste.
    pub(crate) fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        self.recorder.register_counter(&key(metric, values), &METADATA)
    }

    pub(crate) fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        self.recorder.register_gauge(&key(metric, values), &METADATA)
    }

    pub(crate) fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        self.recorder.register_histogram(&key(metric, values), &METADATA)
    }

    /// Whether they are read at an address of their own, and so nowhere else.
    pub(crate) fn has_own_listener(&self) -> bool {
        self.has_own_listener
    }

    /// One more.
    pub(crate) fn count(&self, metric: &Metric, values: &[&str]) {
        self.counter(metric, values).increment(1);
    }

    /// Everything, as Prometheus reads it.
    fn text(&self) -> String {
        self.prometheus.render()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("is_sent", &self.is_sent).finish_non_exhaustive()
    }
}

fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    let labels = metric.labels.iter().zip(values);
    let labels = labels.map(|(label, value)| metrics::Label::new(label.name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

fn prometheus() -> PrometheusBuilder {
    catalogue::ALL.iter().fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(bounds) => {
            let with_bounds = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds);
            // Only no bounds at all are an error.
            with_bounds.unwrap_or_else(|_| PrometheusBuilder::new())
        }
        Kind::Counter | Kind::Gauge => builder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&MetricsSettings::default()).unwrap()
    }

    #[test]
    fn what_has_not_happened_is_zero() {
        let text = metrics().text();
        for line in [
            "# TYPE converge_agents gauge",
            "converge_agents{carrier=\"quic\"} 0",
            "# TYPE converge_connects_total counter",
            "converge_connects_total{carrier=\"websocket\",result=\"no_such_id\"} 0",
            "converge_limits_hit_total{limit=\"agents\"} 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in:\n{text}");
        }
        assert!(
            text.contains(concat!("converge_build_info{version=\"", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
    }

    #[test]
    fn latencies_have_the_bounds_of_the_catalogue() {
        let metrics = metrics();
        metrics.histogram(&catalogue::PAIRING_SECONDS, &["quic"]).record(0.003);
        let text = metrics.text();
        assert!(text.contains("converge_pairing_seconds_bucket{carrier=\"quic\",le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("converge_pairing_seconds_bucket{carrier=\"quic\",le=\"0.005\"} 1"), "{text}");
    }

    #[test]
    fn relays_of_one_process_count_for_themselves() {
        let (one, other) = (metrics(), metrics());
        one.count(&catalogue::RESUMES, &["quic"]);
        assert!(one.text().contains("converge_resumes_total{carrier=\"quic\"} 1"));
        assert!(other.text().contains("converge_resumes_total{carrier=\"quic\"} 0"));
    }
}

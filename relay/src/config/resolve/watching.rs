//! What tells the operator of the relay: metrics and the session log.

use crate::{
    command_line,
    config::{Loaded, Problem},
    metrics::{MetricsSettings, StatsD, settings::STATSD_PORT},
    session_log::SessionLogSettings,
};
use std::path::Path;

pub(super) fn metrics(said: &command_line::Metrics) -> MetricsSettings {
    let statsd = said.statsd_host.clone().map(|host| StatsD {
        host,
        port: said.statsd_port.unwrap_or(STATSD_PORT),
        namespace: said.statsd_namespace.clone(),
    });
    MetricsSettings { listen: said.metrics, statsd }
}

pub(super) fn session_log(said: &command_line::Log) -> Option<SessionLogSettings> {
    let path = said.session_log.clone()?;
    Some(SessionLogSettings { path, has_addresses: said.session_log_addresses.unwrap_or(true) })
}

/// A check of the whole.
pub(super) fn makes_sense(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let settings = &loaded.settings;
    let (listen, metrics) = (&settings.listen, &settings.metrics);
    let own = metrics.metrics.filter(|address| address.port() != 0);
    if own.is_some() && (own == listen.listen || own == listen.http) {
        problems.push(Problem::about(&["metrics"], "the listener for metrics needs an address of its own"));
    }
    if metrics.statsd_host.as_deref().is_some_and(|host| host.is_empty() || host.contains([':', '/'])) {
        let what = "it is a host name or an IPv4 address; the port has a key of its own";
        problems.push(Problem::about(&["statsd_host"], what));
    }
    if metrics.statsd_port == Some(0) {
        problems.push(Problem::about(&["statsd_port"], "nothing can be sent to port 0"));
    }
    if let Some(namespace) = &metrics.statsd_namespace {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if namespace.is_empty() || namespace.len() > 100 || !namespace.bytes().all(is_good) {
            let what = "it has up to 100 letters, digits, dots, hyphens and underscores";
            problems.push(Problem::about(&["statsd_namespace"], what));
        }
        if metrics.statsd_host.is_none() {
            let what = "nothing is sent without a server; say which";
            problems.push(Problem::about(&["statsd_host", "statsd_namespace"], what));
        }
    }
    if let Some(path) = settings.log.session_log.as_deref().filter(|path| *path != Path::new("-")) {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.exists() && !path.is_file() {
            problems.push(Problem::about(
                &["session_log"],
                "it is there and no file; name another, or - for standard output",
            ));
        } else if !directory.is_dir() {
            let what = format!("there is no directory {}", directory.display());
            problems.push(Problem::about(&["session_log"], what));
        }
    }
}

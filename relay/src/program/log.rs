//! What the relay writes to standard error.

use crate::command_line::values::{LogFilter, LogFormat};
use std::io::{self, IsTerminal};
use tracing::warn;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// A log whose filter can be changed.
#[derive(Clone, Debug)]
pub(super) struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Makes it the log of this process.
    pub(super) fn install(filter: &LogFilter, format: LogFormat) -> Self {
        let (layer, handle) = reload::Layer::new(filter.filter());
        let ansi = io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines = match format {
            LogFormat::Text => lines.with_ansi(ansi).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(layer).with(lines).init();
        Self(handle)
    }

    pub(super) fn change(&self, filter: &LogFilter) {
        if let Err(error) = self.0.reload(filter.filter()) {
            warn!(%error, "cannot change what is logged");
        }
    }
}

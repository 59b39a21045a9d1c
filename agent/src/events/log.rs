//! The event log: who did what, and when, as lines of JSON.

use crate::{events::TimedEvent, platform::files::append_to_log};
use std::{ffi::OsString, fmt, io, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tracing::warn;

/// A line must be written by then. It is only for a stdout that nobody reads; a disk is faster or broken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the event log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventLogTarget {
    /// To the agent's stdout.
    Stdout,
    /// To a file, behind what is in it. A new one can be read by its owner only.
    File(PathBuf),
}

/// `-` is stdout; a file of that name is `./-`.
impl From<OsString> for EventLogTarget {
    fn from(argument: OsString) -> Self {
        if argument == "-" { Self::Stdout } else { Self::File(argument.into()) }
    }
}

impl fmt::Display for EventLogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// An open event log.
pub struct EventLog {
    target: EventLogTarget,
    /// `None` after an error.
    out: Option<Box<dyn AsyncWrite + Send + Unpin>>,
}

impl EventLog {
    /// Opens the log, once, before anything happens.
    ///
    /// # Errors
    /// When the file cannot be made or written to.
    pub async fn open(target: EventLogTarget) -> io::Result<Self> {
        let out: Box<dyn AsyncWrite + Send + Unpin> = match &target {
            EventLogTarget::Stdout => Box::new(tokio::io::stdout()),
            EventLogTarget::File(path) => Box::new(append_to_log(path).await?),
        };
        Ok(Self { target, out: Some(out) })
    }

    /// Writes one line, which is in the file when this returns.
    ///
    /// What goes wrong is told once, in the agent's log, and the event log ends there: a line that is half written
    /// must not be followed by another. The agent goes on.
    pub async fn write(&mut self, event: &TimedEvent) {
        let Some(out) = &mut self.out else { return };
        let line = event.to_json_line();
        let writing = async {
            out.write_all(line.as_bytes()).await?;
            out.flush().await
        };
        let problem = match timeout(WRITE_TIMEOUT, writing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "nobody reads it".to_owned(),
        };
        warn!(file = %self.target, %problem, "the event log cannot be written and ends here; the agent goes on");
        self.out = None;
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("target", &self.target).finish_non_exhaustive()
    }
}

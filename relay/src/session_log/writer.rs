//! The task that owns the log's file.

use super::{SessionLog, SessionLogSettings};
use crate::config::Live;
use std::{
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Lines that are written at once.
const BATCH: usize = 256;

/// A log that is open, and what it takes to write it.
pub(crate) struct Writer {
    path: PathBuf,
    output: Output,
    lines: mpsc::Receiver<String>,
    dropped: Arc<AtomicU64>,
    /// The output may end in the middle of a line.
    is_torn: bool,
}

/// Where lines go.
enum Output {
    Stdout(tokio::io::Stdout),
    File(File),
}

impl Writer {
    /// Opens the log, so that one that cannot be written is known before the relay begins.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn open(settings: &SessionLogSettings) -> io::Result<(SessionLog, Self)> {
        let output = if settings.path == Path::new("-") {
            Output::Stdout(tokio::io::stdout())
        } else {
            Output::File(File::from_std(options().open(&settings.path)?))
        };
        let (log, lines, dropped) = SessionLog::new(settings.has_addresses);
        let is_torn = matches!(output, Output::File(_)) && ends_within_a_line(&settings.path);
        Ok((log, Self { path: settings.path.clone(), output, lines, dropped, is_torn }))
    }

    /// Writes until `end`, and then what waits; how long that may take is for the caller to say. Opens the file anew when the configuration was read again, so that it can
    /// have been moved away.
    pub(crate) async fn run(mut self, mut live: watch::Receiver<Live>, end: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut said = false;
        loop {
            let count = tokio::select! {
                biased;
                changed = live.changed() => {
                    if changed.is_ok() {
                        self.reopen().await;
                        continue;
                    }
                    0
                }
                count = self.lines.recv_many(&mut batch, BATCH) => count,
                () = end.cancelled() => 0,
            };
            if count == 0 {
                break;
            }
            self.write(&mut batch, &mut said).await;
        }
        self.lines.close();
        while self.lines.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch, &mut said).await;
        }
    }

    /// Writes what is in the batch, and empties it. That it fails is said once, until it succeeds again.
    async fn write(&mut self, batch: &mut Vec<String>, said: &mut bool) {
        let mut text = if self.is_torn { "\n".to_owned() } else { String::new() };
        text.push_str(&batch.join("\n"));
        text.push('\n');
        let written = self.output.write(text.as_bytes()).await;
        self.is_torn = written.is_err();
        match written {
            Ok(()) => *said = false,
            Err(error) => {
                self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !std::mem::replace(said, true) {
                    warn!(path = %self.path.display(), %error, "cannot write the session log; lines are missing in it");
                }
            }
        }
        batch.clear();
    }

    async fn reopen(&mut self) {
        let Output::File(file) = &mut self.output else { return };
        match OpenOptions::from(options()).open(&self.path).await {
            Ok(opened) => *file = opened,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot open the session log anew; the file that was open is written on");
            }
        }
    }
}

impl Output {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let output: &mut (dyn AsyncWrite + Send + Unpin) = match self {
            Self::Stdout(stdout) => stdout,
            Self::File(file) => file,
        };
        output.write_all(bytes).await?;
        output.flush().await
    }
}

/// Whether a file that is there ends without the end of a line, as after a disk was full or a relay killed.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok::<_, io::Error>(last[0])
    };
    // An empty file has no last byte.
    last().is_ok_and(|last| last != b'\n')
}

/// For the relay's user alone: it is about people.
fn options() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reload;
    use serde_json::Value;
    use std::fs;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_waits_is_written_before_the_end_and_a_moved_file_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let settings = SessionLogSettings { path: path.clone(), has_addresses: true };
        let (log, writer) = Writer::open(&settings).unwrap();
        let (reload, live) = Reload::new(Live::default());
        let end = CancellationToken::new();
        let lines_of = |log: &SessionLog| log.0.as_ref().unwrap().lines.clone();
        let writing = tokio::spawn(writer.run(live, end.clone()));
        lines_of(&log).send("1".to_owned()).await.unwrap();
        while lines(&path).is_empty() {
            tokio::task::yield_now().await;
        }
        fs::rename(&path, &moved).unwrap();
        reload.apply(Live::default());
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        lines_of(&log).send("2".to_owned()).await.unwrap();
        end.cancel();
        writing.await.unwrap();
        assert_eq!((lines(&moved), lines(&path)), (vec![Value::from(1)], vec![Value::from(2)]));
    }
    #[tokio::test]
    async fn half_a_line_of_before_is_ended_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "{\"half\":").unwrap();
        let (log, writer) =
            Writer::open(&SessionLogSettings { path: path.clone(), has_addresses: true }).unwrap();
        log.0.as_ref().unwrap().lines.try_send("1".to_owned()).unwrap();
        let (_reload, live) = Reload::new(Live::default());
        let end = CancellationToken::new();
        end.cancel();
        writer.run(live, end).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\":\n1\n");
    }
}

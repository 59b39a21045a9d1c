//! `.hold` in the agent directory: whoever touches it keeps the agent.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::Notify,
    time::{Instant, Interval, MissedTickBehavior},
};
use tracing::debug;

/// How often the file is looked at where the system does not tell of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// And where it does: some file systems tell of some changes only.
const FALLBACK_INTERVAL: Duration = Duration::from_secs(15);
/// A time further ahead counts as this one; nobody means it.
const MAX_AHEAD: Duration = Duration::from_hours(24 * 30);

/// The file, and what tells of its changes.
pub struct HoldFile {
    path: PathBuf,
    changes: Arc<Notify>,
    interval: Interval,
    /// The modification time when it was last read, and what it meant then: a system clock that is set moves nothing.
    known: Option<(SystemTime, Instant)>,
    /// Tells for as long as it exists.
    _watcher: Option<RecommendedWatcher>,
}

impl HoldFile {
    /// Begins to watch; the directory must exist.
    pub fn watch(path: PathBuf) -> Self {
        let changes = Arc::new(Notify::new());
        let watcher = watcher(&path, changes.clone())
            .inspect_err(|error| debug!(%error, "the hold file is looked at every second instead"))
            .ok();
        let period = if watcher.is_some() { FALLBACK_INTERVAL } else { POLL_INTERVAL };
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, changes, interval, known: None, _watcher: watcher }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves when it is time to look at the file again. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.changes.notified() => {}
            _ = self.interval.tick() => {}
        }
    }

    /// The time that the file stands for, if there is one: its modification time.
    pub fn read(&mut self) -> Option<Instant> {
        let modified = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        self.known = match (modified, self.known) {
            (Some(modified), Some(known)) if known.0 == modified => Some(known),
            (Some(modified), _) => Some((modified, instant(modified))),
            (None, _) => None,
        };
        self.known.map(|(_, instant)| instant)
    }

    /// Makes the file, with a time so far ahead.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn hold(&self, ahead: Option<Duration>) -> io::Result<()> {
        touch(&self.path, ahead)
    }

    /// Removes the file.
    ///
    /// # Errors
    /// When there is one and it cannot be removed.
    pub fn release(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for HoldFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HoldFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes a hold file, with a time so far ahead.
pub(crate) fn touch(path: &Path, ahead: Option<Duration>) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let now = SystemTime::now();
    File::set_modified(&file, ahead.map_or(now, |ahead| now + ahead.min(MAX_AHEAD)))
}

fn instant(modified: SystemTime) -> Instant {
    let now = Instant::now();
    match modified.duration_since(SystemTime::now()) {
        Ok(ahead) => now + ahead.min(MAX_AHEAD),
        // A file from before the machine was started.
        Err(ago) => now.checked_sub(ago.duration()).unwrap_or(now),
    }
}

/// Watches the directory: a file that does not exist cannot be watched.
fn watcher(path: &Path, changes: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let (directory, name) =
        (path.parent().unwrap_or(Path::new(".")), path.file_name().map(ToOwned::to_owned));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = |event: &notify::Event| {
            event.paths.is_empty() || event.paths.iter().any(|path| path.file_name() == name.as_deref())
        };
        // Reading it is no change; an error may have hidden one.
        if event.as_ref().map_or(true, |event| !event.kind.is_access() && concerns(event)) {
            changes.notify_one();
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

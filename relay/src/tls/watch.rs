//! Notices that files may have changed: by notification, and by looking from time to time where that does not work.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior},
};
use tracing::debug;

/// How often files are looked at where the system does not tell of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// And where it does: some file systems tell of some changes only, and those of other machines on none.
const FALLBACK_INTERVAL: Duration = Duration::from_secs(15);
/// Several changes come together: a certificate and its key, or whatever else is written beside them.
const QUIET: Duration = Duration::from_millis(100);
/// Links that lead to links; as many as the kernel follows, about.
const MAX_LINKS: usize = 32;

/// What tells of changes.
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    changes: Arc<Notify>,
    interval: Interval,
    watcher: Option<RecommendedWatcher>,
    /// The directories that are watched.
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins to watch. The files need not exist.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let changes = Arc::new(Notify::new());
        let notified = changes.clone();
        // Whatever happens beside the files may be the change of a link that leads to them.
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
                notified.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| debug!(%error, "files are looked at every other second instead"))
            .ok();
        let mut interval = tokio::time::interval(FALLBACK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self { paths, changes, interval, watcher, watched: BTreeSet::new() };
        if !watch.follow_links() {
            watch.poll();
        }
        watch
    }

    /// Resolves when it is time to look at the files again. Cancel-safe but for the pause that follows a change.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.changes.notified() => tokio::time::sleep(QUIET).await,
            _ = self.interval.tick() => {}
        }
        if !self.follow_links() {
            self.poll();
        }
    }

    fn poll(&mut self) {
        if self.interval.period() != POLL_INTERVAL {
            self.interval = tokio::time::interval(POLL_INTERVAL);
            self.interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.interval.reset();
        }
    }

    /// Watches the directories in which something decides what the files are; whether all of them can be.
    fn follow_links(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeSet<_> = self.paths.iter().flat_map(|path| directories(path)).collect();
        for gone in self.watched.difference(&wanted) {
            // It may be gone indeed.
            let _ = watcher.unwatch(gone);
        }
        let mut all = true;
        let mut now_watched = BTreeSet::new();
        for directory in wanted {
            let known = self.watched.contains(&directory);
            match if known { Ok(()) } else { watcher.watch(&directory, RecursiveMode::NonRecursive) } {
                Ok(()) => drop(now_watched.insert(directory)),
                Err(error) => {
                    debug!(directory = %directory.display(), %error, "files are looked at every other second instead");
                    all = false;
                }
            }
        }
        self.watched = now_watched;
        all
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// The directories of a file and of every link on the way to it, by their real names. Kubernetes exchanges a link to a
/// directory (`..data`) that the file's own link leads through; certbot exchanges the file's link.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MAX_LINKS {
        let Some((directory, name)) = path.parent().zip(path.file_name()) else { break };
        // A link among the directories above leads elsewhere when it is exchanged.
        let above = directory.ancestors().find(|above| above.is_symlink());
        directories.extend(above.and_then(Path::parent).and_then(|above| above.canonicalize().ok()));
        let Ok(real) = directory.canonicalize() else { break };
        let target = std::fs::read_link(real.join(name));
        directories.insert(real.clone());
        match target {
            Ok(target) => path = real.join(target),
            Err(_) => break,
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn names(path: &Path, below: &Path) -> Vec<String> {
        let below = below.canonicalize().unwrap();
        let names = directories(path).into_iter();
        names.map(|directory| directory.strip_prefix(&below).unwrap().display().to_string()).collect()
    }

    #[test]
    fn every_directory_that_decides_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("plain")).unwrap();
        assert_eq!(names(&root.join("plain/tls.crt"), root), ["plain"]);
        assert_eq!(names(&root.join("missing/tls.crt"), root), [] as [&str; 0]);

        // As Kubernetes mounts secrets.
        fs::create_dir_all(root.join("mount/..2026_1")).unwrap();
        fs::write(root.join("mount/..2026_1/tls.crt"), "").unwrap();
        symlink("..2026_1", root.join("mount/..data")).unwrap();
        symlink("..data/tls.crt", root.join("mount/tls.crt")).unwrap();
        assert_eq!(names(&root.join("mount/tls.crt"), root), ["mount", "mount/..2026_1"]);

        // As certbot keeps certificates.
        fs::create_dir_all(root.join("archive/relay")).unwrap();
        fs::create_dir_all(root.join("live/relay")).unwrap();
        symlink("../../archive/relay/fullchain1.pem", root.join("live/relay/fullchain.pem")).unwrap();
        assert_eq!(names(&root.join("live/relay/fullchain.pem"), root), ["archive/relay", "live/relay"]);

        // In circles.
        symlink("two", root.join("one")).unwrap();
        symlink("one", root.join("two")).unwrap();
        assert_eq!(names(&root.join("one"), root), [""]);
    }
}

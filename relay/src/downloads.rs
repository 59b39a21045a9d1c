//! The programs that the relay hands out: the files of one directory, with their checksums.
//!
//! Only regular files directly in the directory count, of names that need no quoting anywhere; links, folders and the
//! rest are not there as far as anybody outside can see. A file that `SHA256SUMS` says is another one is not handed out.

mod checksum;
mod installer;

pub use installer::Installer;

use crate::limits;
use checksum::Checksums;
use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tracing::warn;

/// The directory that the operator has named.
#[derive(Debug)]
pub struct Downloads {
    directory: PathBuf,
    /// What was found the last time, so that only what has changed is read again.
    known: Mutex<BTreeMap<String, Known>>,
}

/// One file that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Its name, of letters, digits, `.`, `_`, `+` and `-`.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Download {
    /// Whether it is an agent for Windows, by the name that `install.ps1` looks for.
    pub(crate) fn is_agent_for_windows(&self) -> bool {
        let machine = self.name.strip_prefix("converge-agent-windows-");
        machine.and_then(|machine| machine.strip_suffix(".exe")).is_some()
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot offer the programs in {} for download: {source}", .directory.display())]
pub struct DownloadsError {
    /// Which.
    directory: PathBuf,
    /// Why.
    source: io::Error,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    download: Download,
    /// That `SHA256SUMS` has another checksum for it.
    is_another: bool,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Downloads {
    /// Reads every file of the directory once, for its checksum.
    ///
    /// # Errors
    /// [`DownloadsError`] when it is no directory that can be read.
    pub fn open(directory: PathBuf) -> Result<Self, DownloadsError> {
        let downloads = Self { directory, known: Mutex::default() };
        match downloads.scan() {
            Ok(_) => Ok(downloads),
            Err(source) => Err(DownloadsError { directory: downloads.directory, source }),
        }
    }

    /// What there is now, in the order of names. A file that the relay could send compressed instead of another one
    /// (`NAME.gz` beside `NAME`) is not listed, nor are checksums.
    pub async fn list(self: &Arc<Self>) -> Vec<Download> {
        let mut all = self.current().await;
        let names: Vec<_> = all.iter().map(|file| file.name.clone()).collect();
        let is_beside =
            |name: &str| name.strip_suffix(".gz").is_some_and(|name| names.iter().any(|own| own == name));
        all.retain(|file| file.name != Checksums::FILE && !is_beside(&file.name));
        all
    }

    /// Where the file of a name is, and whether it is also there compressed.
    pub(crate) async fn find(self: &Arc<Self>, name: &str) -> Option<(PathBuf, bool)> {
        let all = self.current().await;
        let has = |name: &str| all.iter().any(|file| file.name == name);
        has(name).then(|| (self.directory.join(name), has(&format!("{name}.gz"))))
    }

    async fn current(self: &Arc<Self>) -> Vec<Download> {
        let this = self.clone();
        // The disk may be slow.
        match tokio::task::spawn_blocking(move || this.scan()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                warn!(directory = %self.directory.display(), %error, "cannot read the programs to download");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Looks at the directory again. Files that have changed are read, one caller after the other.
    fn scan(&self) -> io::Result<Vec<Download>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let checksums = Checksums::read(&self.directory)?;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned)
            else {
                continue;
            };
            // Of the entry itself: a link is no file.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            if found.len() == limits::MAX_DOWNLOADS {
                warn!(directory = %self.directory.display(), "too many files; some are not offered for download");
                break;
            }
            let stamp = Stamp::of(&metadata);
            let known = known.remove(&name).filter(|known| known.stamp == stamp);
            if let Some(file) = known.or_else(|| look_at(&entry.path(), name.clone(), stamp)) {
                found.insert(name, file);
            }
        }
        for file in found.values_mut() {
            let expected = checksums.of(&file.download.name);
            let is_another = expected.is_some_and(|expected| expected != file.download.sha256);
            if is_another && !file.is_another {
                warn!(
                    file = file.download.name,
                    "not what SHA256SUMS says, so it is not offered for download"
                );
            }
            file.is_another = is_another;
        }
        *known = found;
        let offered = known.values().filter(|file| !file.is_another);
        Ok(offered.map(|file| file.download.clone()).collect())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// `None` for a file that is gone again or that we may not read.
fn look_at(path: &Path, name: String, stamp: Stamp) -> Option<Known> {
    match checksum::of_file(path) {
        Ok(sha256) => {
            Some(Known { stamp, download: Download { name, size: stamp.size, sha256 }, is_another: false })
        }
        Err(error) => {
            warn!(file = %path.display(), %error, "cannot be read, so it is not offered for download");
            None
        }
    }
}

/// A name that is itself in a path, a URL, a page and a shell.
fn is_plain(name: &str) -> bool {
    !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::symlink, time::Duration};

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            fs::write(directory.path().join(name), contents).unwrap();
        }
        directory
    }

    async fn names(downloads: &Arc<Downloads>) -> Vec<String> {
        downloads.list().await.into_iter().map(|file| file.name).collect()
    }

    #[tokio::test]
    async fn only_plain_regular_files_are_offered() {
        let outside = directory(&[("secret", "s")]);
        let here = directory(&[("converge", "hello"), (".hidden", "x"), ("two words", "x"), ("quote'", "x")]);
        fs::create_dir(here.path().join("folder")).unwrap();
        symlink(outside.path().join("secret"), here.path().join("link")).unwrap();
        symlink("converge", here.path().join("near")).unwrap();
        let downloads = Arc::new(Downloads::open(here.path().to_owned()).unwrap());
        let expected = Download { name: "converge".to_owned(), size: 5, sha256: HELLO.to_owned() };
        assert_eq!(downloads.list().await, [expected]);
        for name in ["link", "near", ".hidden", "folder", "../converge", "", ".", "two words"] {
            assert_eq!(downloads.find(name).await, None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_has_another_checksum() {
        let here = directory(&[("converge", "hello")]);
        let downloads = Arc::new(Downloads::open(here.path().to_owned()).unwrap());
        let path = here.path().join("converge");
        fs::write(&path, "jello").unwrap();
        // Of the same size, and perhaps within what the file system's clock can tell apart.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        assert_ne!(downloads.list().await[0].sha256, HELLO);
        fs::remove_file(path).unwrap();
        assert_eq!(downloads.list().await, []);
    }

    #[tokio::test]
    async fn what_is_not_what_the_checksums_say_is_not_offered() {
        let sums = format!("{HELLO}  good\n{HELLO} *binary\n{HELLO}  bad\n");
        let files =
            [("good", "hello"), ("binary", "hello"), ("bad", "jello"), ("new", "x"), ("SHA256SUMS", &sums)];
        let here = directory(&files);
        let downloads = Arc::new(Downloads::open(here.path().to_owned()).unwrap());
        assert_eq!(names(&downloads).await, ["binary", "good", "new"]);
        assert_eq!(downloads.find("bad").await, None);
        assert!(downloads.find("SHA256SUMS").await.is_some());
        fs::write(here.path().join("SHA256SUMS"), "").unwrap();
        assert_eq!(names(&downloads).await, ["bad", "binary", "good", "new"]);
    }

    #[tokio::test]
    async fn the_compressed_twin_is_found_but_not_listed() {
        let here = directory(&[("converge", "hello"), ("converge.gz", "x"), ("source.gz", "x")]);
        let downloads = Arc::new(Downloads::open(here.path().to_owned()).unwrap());
        assert_eq!(names(&downloads).await, ["converge", "source.gz"]);
        assert_eq!(downloads.find("converge").await, Some((here.path().join("converge"), true)));
        assert_eq!(downloads.find("source.gz").await, Some((here.path().join("source.gz"), false)));
        assert!(downloads.find("converge.gz").await.is_some());
    }

    #[test]
    fn a_directory_that_is_none_is_said_so() {
        let error = Downloads::open("/nowhere/at/all".into()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot offer the programs in /nowhere/at/all for download: No such file"),
            "{error}"
        );
    }
}

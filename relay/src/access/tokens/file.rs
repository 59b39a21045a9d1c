//! `--tokens-file`: entries in a file of their own, read again when it changes.

use super::StaticToken;
use serde::Deserialize;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Larger files are refused; some thousand tokens.
const MAX_BYTES: u64 = 1024 * 1024;
/// How often it is looked whether the file has changed, while tokens come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file of tokens.
#[derive(Debug)]
pub struct TokensFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: Arc<Vec<StaticToken>>,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// What changes when a file does, whether it was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// Why there are no tokens from it.
#[derive(Debug, thiserror::Error)]
pub enum TokensFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It makes no sense.
    #[error("{path}: {detail}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Where and what.
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    tokens: Vec<StaticToken>,
}

impl TokensFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// [`TokensFileError`].
    pub fn open(path: &Path) -> Result<Self, TokensFileError> {
        let (stamp, tokens) = read(path)?;
        let state = State { tokens: Arc::new(tokens), stamp, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Its tokens now. A file that has become senseless changes nothing, and is told about in the log.
    pub(in crate::access) async fn current(self: &Arc<Self>) -> Arc<Vec<StaticToken>> {
        let is_due = {
            let mut state = self.state();
            let is_due = state.looked.elapsed() >= LOOK_INTERVAL;
            if is_due {
                state.looked = Instant::now();
            }
            is_due
        };
        if is_due {
            let file = self.clone();
            // A file system may hang.
            let looking = tokio::task::spawn_blocking(move || file.look());
            if let Err(error) = looking.await {
                tracing::warn!(%error, "cannot look at the tokens");
            }
        }
        self.state().tokens.clone()
    }

    fn look(&self) {
        let before = self.state().stamp;
        if before.is_some() && stamp(&self.path).ok() == before {
            return;
        }
        match read(&self.path) {
            Ok((stamp, tokens)) => {
                tracing::info!(path = %self.path.display(), tokens = tokens.len(), "tokens read again");
                let mut state = self.state();
                (state.stamp, state.tokens) = (stamp, Arc::new(tokens));
            }
            Err(error) => {
                let mut state = self.state();
                // Once for each change.
                if state.stamp.take().is_some() {
                    tracing::warn!(%error, "the tokens stay what they were");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn read(path: &Path) -> Result<(Option<Stamp>, Vec<StaticToken>), TokensFileError> {
    let failed = |source| TokensFileError::Read { path: path.to_owned(), source };
    let before = stamp(path).map_err(failed)?;
    if before.length > MAX_BYTES {
        return Err(failed(io::Error::other(format!("it is larger than {} KiB", MAX_BYTES / 1024))));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let tokens = parse(&text).map_err(|detail| TokensFileError::Content { path: path.to_owned(), detail })?;
    Ok((Some(before), tokens))
}

/// The entries of a file's text; the error has the line, and no more of the text than that.
pub(in crate::access) fn parse(text: &str) -> Result<Vec<StaticToken>, String> {
    let content: Content = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    Ok(content.tokens)
}

#[cfg(test)]
mod tests {
    use super::{super::Secret, *};

    fn entry(name: &str) -> String {
        let hash = Secret::generate([1; 32]).hash();
        format!("[[tokens]]\nname = '{name}'\nsha256 = '{hash}'\nscopes = ['agent']\n")
    }

    fn names(file: &TokensFile) -> Vec<String> {
        file.look();
        file.state().tokens.iter().map(|token| token.name.clone()).collect()
    }

    #[test]
    fn changes_are_seen_and_mistakes_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        fs::write(&path, entry("one")).unwrap();
        let file = TokensFile::open(&path).unwrap();
        assert_eq!(names(&file), ["one"]);
        fs::write(&path, entry("one") + &entry("another")).unwrap();
        assert_eq!(names(&file), ["one", "another"]);
        fs::write(&path, "[[tokens]]\nnam = 'x'").unwrap();
        assert_eq!(names(&file), ["one", "another"]);
        fs::write(&path, entry("three")).unwrap();
        assert_eq!(names(&file), ["three"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(names(&file), ["three"]);
        fs::write(&path, "").unwrap();
        assert!(names(&file).is_empty(), "an empty file withdraws all");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = parse(&(entry("one") + "[[tokens]]\nname = 'x'\ncolour = 'red'")).unwrap_err();
        assert!(error.contains("line 7") && error.contains("colour"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let error = TokensFile::open(&directory.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}

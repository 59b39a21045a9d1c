//! Public keys, and what their owners may do, from `authorized_keys` files.
//!
//! The files are read afresh at every login attempt, so an edit counts at once and nothing is cached that could be
//! stale. Their format is OpenSSH's (sshd(8), section "`AUTHORIZED_KEYS` file format"). Two rules are stricter than OpenSSH's:
//!
//! - An option this agent does not know, or cannot honour, refuses the *key*, with a problem that names file, line
//!   and option. Ignoring it would let somebody in with more rights than the person who wrote the line meant to give.
//! - Owner and mode of the files do not matter: the agent runs as the job's own user in a throw-away place, and the
//!   key files are usually part of a checkout.
//!
//! Start with [`AuthorizedKeys::new`]; [`AuthorizedKeys::load`] reads the files, and [`KeyList::find`] looks for one key
//! in what was read. Lists that come from elsewhere than a file are read with [`KeyList::parse`].

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod entry;
mod expiry;
mod list;
mod options;

pub use entry::{Entry, EntryError};
pub use list::{Found, KeyList, Place};
pub use options::{KeyOptions, OptionError};

/// Largest file that is read: 1 MiB, some ten thousand keys. A larger one is a mistake and gives no key at all.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Longest line that is understood: 16 KiB, several times the largest RSA key with a long forced command.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// The files that say which public keys may log in, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKeys {
    files: Vec<PathBuf>,
}

impl AuthorizedKeys {
    /// Names the files; nothing is read yet. A file that does not exist is no error: it may come later.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { files: files.into_iter().map(Into::into).collect() }
    }

    /// The files, as given to [`AuthorizedKeys::new`].
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Reads all files.
    ///
    /// Blocking: reads up to [`MAX_FILE_BYTES`] of each file.
    pub fn load(&self) -> KeyList {
        let mut list = KeyList::default();
        for path in &self.files {
            match read_file(path) {
                Ok(data) => list.append(KeyList::parse(&path.display().to_string(), &data)),
                Err(kind) => list.report(Problem { place: Place::whole(path.display()), kind }),
            }
        }
        list
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ProblemKind> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ProblemKind::Missing,
        _ => ProblemKind::Unreadable(Arc::new(error)),
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer, for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ProblemKind::NotAFile);
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut data = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut data).map_err(unreadable)?;
    if data.len() as u64 > MAX_FILE_BYTES {
        return Err(ProblemKind::TooLarge);
    }
    Ok(data)
}

/// One file or line that gives no key, and why.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The file, or the line.
    pub place: Place,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

/// What can be wrong with a file or a line.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no such file (yet).
    #[error("file does not exist")]
    Missing,
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] Arc<std::io::Error>),
    /// A directory, device or FIFO.
    #[error("not a regular file")]
    NotAFile,
    /// Above [`MAX_FILE_BYTES`].
    #[error("larger than {MAX_FILE_BYTES} bytes, so none of it is used")]
    TooLarge,
    /// The entry's `expiry-time` has passed.
    #[error("key has expired (expiry-time option)")]
    Expired,
    /// The line makes no sense, or asks for something that cannot be honoured.
    #[error(transparent)]
    Entry(EntryError),
}

/// Runs the parser on arbitrary bytes; panics if one of its promises does not hold. For fuzzers and property tests.
#[doc(hidden)]
pub fn fuzz_authorized_keys(data: &[u8]) {
    let lines = data.split(|&byte| byte == b'\n').count();
    let mut last = 0;
    for (line, parsed) in entry::parse(data) {
        assert!(line > last && line <= lines, "line numbers rise and exist");
        last = line;
        match parsed {
            Ok(entry) => {
                assert!(entry.key.to_bytes().is_ok(), "an accepted key can be compared and fingerprinted");
                let command = entry.options.command.as_deref().unwrap_or_default();
                assert!(!command.contains('\0'), "a forced command can be handed to a shell");
            }
            Err(error) => assert!(!error.to_string().is_empty(), "every refusal is explained"),
        }
    }
}

#[cfg(test)]
mod tests;

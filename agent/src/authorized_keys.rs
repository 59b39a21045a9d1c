//! Who may log in: public keys from `authorized_keys` files.
//!
//! The files are read afresh at every login attempt, so an edit counts at once and nothing is cached that could be
//! stale. Their format is OpenSSH's (sshd(8), section "`AUTHORIZED_KEYS` file format"). Two rules are stricter than OpenSSH's:
//!
//! - An option this agent does not know, or cannot honour, refuses the *key*, with a problem that names file, line
//!   and option. Ignoring it would let somebody in with more rights than the person who wrote the line meant to give.
//! - Owner and mode of the files do not matter: the agent runs as the job's own user in a throw-away place, and the
//!   key files are usually part of a checkout.
//!
//! Start with [`AuthorizedKeys::new`]; [`AuthorizedKeys::load_report`] says at start whether anybody can log in at
//! all, [`AuthorizedKeys::find`] answers one login attempt.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use russh::keys::PublicKey;

mod entry;
mod expiry;
mod options;

pub use entry::{Entry, EntryError};
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

    /// Reads all files and says how many keys may log in at `now`, and what is wrong with the rest.
    ///
    /// Blocking: reads up to [`MAX_FILE_BYTES`] of each file.
    pub fn load_report(&self, now: SystemTime) -> LoadReport {
        let (entries, mut problems) = self.load();
        let mut usable = 0;
        for (place, entry) in entries {
            if entry.options.is_expired(now) {
                problems.push(Problem { kind: ProblemKind::Expired, ..place });
            } else {
                usable += 1;
            }
        }
        LoadReport { files: self.files.clone(), usable, problems }
    }

    /// Looks for `key` in all files; the first entry that is valid at `now` decides.
    ///
    /// Blocking, like [`AuthorizedKeys::load_report`]. The second value lists what kept other entries *of this key*
    /// from being used, so that a refused login can be explained in the agent's own log.
    pub fn find(&self, key: &PublicKey, now: SystemTime) -> (Option<Entry>, Vec<Problem>) {
        let (entries, problems) = self.load();
        let mut problems: Vec<Problem> =
            problems.into_iter().filter(|problem| problem.concerns(key)).collect();
        for (place, entry) in entries {
            if entry.key.key_data() != key.key_data() {
                continue;
            }
            if entry.options.is_expired(now) {
                problems.push(Problem { kind: ProblemKind::Expired, ..place });
                continue;
            }
            return (Some(entry), problems);
        }
        (None, problems)
    }

    /// All well-formed entries with their places (as a `Problem` to be filled in), and all problems.
    fn load(&self) -> (Vec<(Problem, Entry)>, Vec<Problem>) {
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for path in &self.files {
            match read_file(path) {
                Ok(data) => {
                    for (line, parsed) in entry::parse(&data) {
                        let place = |kind| Problem { file: path.clone(), line: Some(line), kind };
                        match parsed {
                            Ok(entry) => entries.push((place(ProblemKind::Expired), entry)),
                            Err(error) => problems.push(place(ProblemKind::Entry(error))),
                        }
                    }
                }
                Err(kind) => problems.push(Problem { file: path.clone(), line: None, kind }),
            }
        }
        (entries, problems)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ProblemKind> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ProblemKind::Missing,
        _ => ProblemKind::Unreadable(error),
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

/// What [`AuthorizedKeys::load_report`] found. Its `Display` is the text for the person who starts the agent.
#[derive(Debug)]
pub struct LoadReport {
    files: Vec<PathBuf>,
    usable: usize,
    problems: Vec<Problem>,
}

impl LoadReport {
    /// Keys that may log in now.
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Everything that kept a line or a file from giving a key, in the order of the files.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.usable > 0 {
            return write!(f, "{} public keys may log in", self.usable);
        }
        f.write_str("no key may log in: ")?;
        if self.problems.is_empty() {
            match self.files.as_slice() {
                [] => f.write_str("no file with public keys was named")?,
                files => {
                    f.write_str("no public key in ")?;
                    for (index, file) in files.iter().enumerate() {
                        write!(f, "{}{}", if index == 0 { "" } else { ", " }, file.display())?;
                    }
                }
            }
        }
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        let file =
            self.files.first().map_or_else(|| ".authorized_keys".into(), |file| file.display().to_string());
        write!(f, "; put a public key in {file}, for example with: cat ~/.ssh/id_ed25519.pub >> {file}")
    }
}

/// One file or line that gives no key, and why.
#[derive(Debug)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl Problem {
    fn concerns(&self, key: &PublicKey) -> bool {
        matches!(&self.kind, ProblemKind::Entry(EntryError::Option { key: refused, .. })
            if refused.key_data() == key.key_data())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

/// What can be wrong with a file or a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no such file (yet).
    #[error("file does not exist")]
    Missing,
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
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

//! The lines of one source or of several, ready to be searched.

use std::fmt;
use std::time::SystemTime;

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::entry::{self, Entry, EntryError};
use super::{Problem, ProblemKind};

/// So many bad lines of a source are remembered. A file of a million blanks and letters is not to become a million texts.
const MAX_PROBLEMS: usize = 1000;

/// Where a line is. Prints as `source:line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A file's path, or a URL.
    pub source: String,
    /// The line, counted from 1; `None` when it is about the source as a whole.
    pub line: Option<usize>,
}

impl Place {
    pub(super) fn whole(source: impl fmt::Display) -> Self {
        Self { source: source.to_string(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Well-formed lines in their order, and what is wrong with the rest.
#[derive(Clone, Debug, Default)]
pub struct KeyList {
    entries: Vec<(Place, Entry)>,
    problems: Vec<Problem>,
}

impl KeyList {
    /// Reads a text in the format of an `authorized_keys` file. There is no wrong one.
    pub fn parse(source: &str, data: &[u8]) -> Self {
        let mut list = Self::default();
        for (line, parsed) in entry::parse(data) {
            let place = Place { source: source.to_owned(), line: Some(line) };
            match parsed {
                Ok(entry) => list.entries.push((place, entry)),
                Err(error) if list.problems.len() < MAX_PROBLEMS => {
                    list.problems.push(Problem { place, kind: ProblemKind::Entry(error) });
                }
                Err(_) => {}
            }
        }
        list
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
        self.problems.append(&mut other.problems);
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The well-formed lines.
    pub fn entries(&self) -> &[(Place, Entry)] {
        &self.entries
    }

    /// Lines and sources that are not well-formed, or ask for something that cannot be honoured.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Lines by which somebody can log in at `now`.
    pub fn usable(&self, now: SystemTime) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(_, entry)| entry).filter(move |entry| !entry.options.is_expired(now))
    }

    /// Lines whose time is over at `now`.
    pub fn expired(&self, now: SystemTime) -> impl Iterator<Item = Problem> + '_ {
        let expired = self.entries.iter().filter(move |(_, entry)| entry.options.is_expired(now));
        expired.map(|(place, _)| Problem { place: place.clone(), kind: ProblemKind::Expired })
    }

    /// Looks for a user's key; the first line that is valid at `now` decides.
    pub fn find(&self, key: &PublicKey, now: SystemTime) -> Found {
        self.search(key.key_data(), Entry::is_user, now)
    }

    /// Looks for the key of a certificate authority among the lines with `cert-authority`. More than one line may name
    /// it, for different principals: all that are valid at `now` are given.
    pub fn find_authorities(&self, key: &KeyData, now: SystemTime) -> Found {
        self.search(key, |entry| !entry.is_user(), now)
    }

    fn search(&self, key: &KeyData, wanted: impl Fn(&Entry) -> bool, now: SystemTime) -> Found {
        let problems = self.problems.iter().filter(|problem| problem.concerns(key)).cloned();
        let mut found = Found { entries: Vec::new(), problems: problems.collect() };
        for (place, entry) in &self.entries {
            if entry.key.key_data() != key || !wanted(entry) {
                continue;
            }
            if entry.options.is_expired(now) {
                found.problems.push(Problem { place: place.clone(), kind: ProblemKind::Expired });
            } else {
                found.entries.push((place.clone(), entry.clone()));
            }
        }
        found
    }
}

/// What was found about one key.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The lines that allow it, in their order.
    pub entries: Vec<(Place, Entry)>,
    /// What kept other lines *of this key* from being used, so that a refused login can be explained in the agent's
    /// own log.
    pub problems: Vec<Problem>,
}

impl Problem {
    fn concerns(&self, key: &KeyData) -> bool {
        matches!(&self.kind, ProblemKind::Entry(EntryError::Option { key: refused, .. })
            if refused.key_data() == key)
    }
}

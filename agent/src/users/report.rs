//! What the sources of users gave, for the person who starts the agent.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::fetch::FetchError;
use super::is_bare;
use crate::users::authorized_keys::{AuthorizedKeys, KeyList};

/// So many problems are told at once.
const MAX_SHOWN: usize = 8;

/// What all sources gave at one time. Its `Display` says who may log in; when that is nobody, why, and what to do.
#[derive(Clone, Debug, Default)]
pub struct Report {
    keys: usize,
    authorities: usize,
    /// Those without principals of their own.
    open_authorities: usize,
    problems: Vec<String>,
    warnings: Vec<String>,
    first_file: Option<PathBuf>,
    pub(super) any_principal: bool,
    /// Nothing but files was named.
    only_files: bool,
}

impl Report {
    pub(super) fn new(files: &[PathBuf]) -> Self {
        Self { first_file: files.first().cloned(), only_files: true, ..Self::default() }
    }

    /// Public keys that may log in.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Certificate authorities whose certificates may.
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// Whether there is anybody at all who may log in.
    pub fn is_anybody(&self) -> bool {
        self.keys + self.authorities > 0
    }

    /// Everything that kept a line or a whole source from giving a key.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Those of the problems that somebody should look at even if other keys can be used: lists and authorities that were
    /// asked for and are not there.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether there are authorities all of whose certificates get in, whatever principals those name.
    pub fn lets_in_any_principal(&self) -> bool {
        self.any_principal && self.open_authorities > 0
    }

    pub(super) fn add_files(&mut self, files: &AuthorizedKeys, list: &KeyList, now: SystemTime) {
        let nothing = list.entries().is_empty() && list.problems().is_empty();
        match (nothing, files.files()) {
            (true, [_, ..]) => self.problems.push(format!("no public key in {}", shown(files.files()))),
            _ => self.add(list, now),
        }
    }

    pub(super) fn add_list(&mut self, source: &str, list: Result<Arc<KeyList>, FetchError>, now: SystemTime) {
        self.only_files = false;
        let problem = match list {
            Ok(list) if list.entries().is_empty() && list.problems().is_empty() => {
                format!("{source}: no public key there; its owner can add one in the settings of the site")
            }
            Ok(list) => return self.add(&list, now),
            Err(error) => format!("{source}: {error}"),
        };
        self.problems.push(problem.clone());
        self.warnings.push(problem);
    }

    pub(super) fn add_authorities(&mut self, files: &AuthorizedKeys, list: &KeyList) {
        self.only_files &= files.files().is_empty();
        let mut problems: Vec<_> = list.problems().iter().map(ToString::to_string).collect();
        if list.entries().is_empty() && problems.is_empty() && !files.files().is_empty() {
            problems.push(format!("no public key in {}", shown(files.files())));
        }
        for (place, entry) in list.entries() {
            if is_bare(entry) {
                self.authorities += 1;
                self.open_authorities += 1;
            } else {
                problems.push(format!(
                    "{place}: options have no meaning in front of a trusted authority; put the line with cert-authority \
                     into an authorized_keys file"
                ));
            }
        }
        self.problems.extend_from_slice(&problems);
        self.warnings.append(&mut problems);
    }

    fn add(&mut self, list: &KeyList, now: SystemTime) {
        self.problems.extend(list.problems().iter().map(ToString::to_string));
        self.problems.extend(list.expired(now).map(|problem| problem.to_string()));
        for entry in list.usable(now) {
            if entry.is_user() {
                self.keys += 1;
            } else {
                self.authorities += 1;
                self.open_authorities += usize::from(entry.options.principals.is_none());
            }
        }
    }
}

fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_anybody() {
            return write!(
                f,
                "who may log in: public keys: {}, certificate authorities: {}",
                self.keys, self.authorities
            );
        }
        f.write_str("no key may log in: ")?;
        if self.problems.is_empty() {
            f.write_str("no file with public keys was named")?;
        }
        let (shown, rest) = self.problems.split_at(self.problems.len().min(MAX_SHOWN));
        f.write_str(&shown.join("; "))?;
        if !rest.is_empty() {
            write!(f, "; and {} more, which CONVERGE_LOG=debug shows", rest.len())?;
        }
        let file = self.first_file.as_deref().unwrap_or(Path::new(".authorized_keys")).display();
        if !self.only_files {
            return write!(f, "; or put a public key in {file}");
        }
        write!(
            f,
            "; put a public key in {file}, for example with: cat ~/.ssh/id_ed25519.pub >> {file}; or say who may log in \
             with --github-user NAME, --gitlab-user NAME, --authorized-keys-url URL, --authorized-keys FILE or, for \
             certificates, --trusted-user-ca FILE"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_problems_some_are_told() {
        let files = AuthorizedKeys::new(["/nowhere/keys"]);
        let mut report = Report::new(files.files());
        report.add_files(
            &files,
            &KeyList::parse("/nowhere/keys", "x\n".repeat(20).as_bytes()),
            SystemTime::now(),
        );
        let text = report.to_string();
        assert!(text.contains("keys:8: no public key") && !text.contains("keys:9:"), "{text}");
        assert!(
            text.contains("; and 12 more, which CONVERGE_LOG=debug shows; put a public key in /nowhere/keys"),
            "{text}"
        );
        assert_eq!(report.problems().len(), 20);
    }

    #[test]
    fn who_may_log_in_is_counted() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let text =
            format!("{key}\nexpiry-time=\"20200101Z\" {key}\ncert-authority {key}\nfrom=\"*\" {key}\n");
        let files = AuthorizedKeys::new(["keys"]);
        let mut report = Report::new(files.files());
        report.add_files(&files, &KeyList::parse("keys", text.as_bytes()), SystemTime::now());
        assert_eq!((report.keys(), report.authorities(), report.problems().len()), (1, 1, 2));
        assert!(report.is_anybody() && report.warnings().is_empty());
        report.any_principal = true;
        assert!(report.lets_in_any_principal());
        let mut with_principals = Report::new(files.files());
        with_principals.any_principal = true;
        let text = format!("cert-authority,principals=\"kim\" {key}");
        with_principals.add_files(&files, &KeyList::parse("keys", text.as_bytes()), SystemTime::now());
        assert!(with_principals.authorities() == 1 && !with_principals.lets_in_any_principal());
        assert_eq!(report.to_string(), "who may log in: public keys: 1, certificate authorities: 1");
    }
}

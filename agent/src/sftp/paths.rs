//! From a client's path to one of this system, and to the name without detours that `REALPATH` asks for.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

use super::{accounts::Accounts, failure::Failure, system};

/// So many symbolic links are followed in one path, as by the system itself.
const MAX_LINKS: usize = 40;

/// The directory in which relative paths start.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where `path` is. Nothing keeps it below the root: the user has a shell here as well.
    pub(super) fn locate(&self, path: &[u8]) -> Result<PathBuf, Failure> {
        if path.is_empty() { Err(Failure::EMPTY_PATH) } else { Ok(self.0.join(system::path(path)?)) }
    }

    /// The absolute path without `.`, `..` and symbolic links; an empty path is the root directory.
    ///
    /// The last component need not exist, as with OpenSSH: clients ask for the name of what they are about to create.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<PathBuf, Failure> {
        let path = if path.is_empty() { b"." } else { path };
        Ok(resolve(&std::path::absolute(self.locate(path)?)?)?)
    }

    /// Replaces `~` and `~user` at the front, then resolves.
    pub(super) fn expand(&self, path: &[u8], accounts: &Accounts) -> Result<PathBuf, Failure> {
        let Some(rest) = path.strip_prefix(b"~") else { return self.resolve(path) };
        let user_bytes = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (user, below) = rest.split_at(user_bytes);
        let mut expanded = system::into_bytes(home(user, accounts)?);
        expanded.extend_from_slice(below);
        self.resolve(&expanded)
    }
}

/// Where a user is at home; no name means the one this process belongs to.
pub(super) fn home(user: &[u8], accounts: &Accounts) -> Result<PathBuf, Failure> {
    if user.is_empty() {
        system::home_directory().ok_or(Failure::NO_SUCH_USER)
    } else {
        Ok(system::path(accounts.home(user).ok_or(Failure::NO_SUCH_USER)?)?)
    }
}

fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut rest: VecDeque<OsString> = VecDeque::new();
    let mut links = 0;
    push_front(&mut rest, path);
    while let Some(component) = rest.pop_front() {
        match Path::new(&component).components().next() {
            Some(Component::ParentDir) => {
                resolved.pop();
                continue;
            }
            Some(Component::CurDir) | None => continue,
            // The root, which replaces all before it, or a name.
            Some(Component::RootDir | Component::Prefix(_) | Component::Normal(_)) => {
                resolved.push(&component);
            }
        }
        match resolved.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(system::too_many_links());
                }
                let target = resolved.read_link()?;
                resolved.pop();
                push_front(&mut rest, &target);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && rest.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(resolved)
}

fn push_front(rest: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        rest.push_front(component.as_os_str().to_owned());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::sftp::wire::Status;

    fn resolved(root: &Path, path: &str) -> Result<PathBuf, Status> {
        Root::new(root.to_owned()).resolve(path.as_bytes()).map_err(|failure| failure.status)
    }

    #[test]
    fn paths_lose_dots_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink("a/b", root.join("relative")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("a/nothing", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        assert_eq!(resolved(&root, ""), Ok(root.clone()));
        assert_eq!(resolved(&root, "./a//b/../."), Ok(root.join("a")));
        assert_eq!(resolved(&root, "relative/.."), Ok(root.join("a")));
        assert_eq!(resolved(&root, "absolute/b/"), Ok(root.join("a/b")));
        assert_eq!(resolved(&root, "/../.."), Ok("/".into()));
        assert_eq!(resolved(&root, "a/new"), Ok(root.join("a/new")));
        assert_eq!(resolved(&root, "dangling"), Ok(root.join("a/nothing")));
        assert_eq!(resolved(&root, "new/newer"), Err(Status::NO_SUCH_FILE));
        assert_eq!(resolved(&root, "a/file/x"), Err(Status::NO_SUCH_FILE));
        assert_eq!(resolved(&root, "loop"), Err(Status::NO_SUCH_FILE));
        assert_eq!(resolved(&root, "a\0b"), Err(Status::BAD_MESSAGE));
    }

    #[test]
    fn tilde_is_a_home_directory() {
        let accounts = crate::sftp::accounts::tests::accounts();
        let root = Root::new("/".into());
        assert_eq!(home(b"ci", &accounts), Ok("/home/ci".into()));
        assert_eq!(home(b"nobody-here", &accounts), Err(Failure::NO_SUCH_USER));
        assert_eq!(root.expand(b"~nobody-here/x", &accounts), Err(Failure::NO_SUCH_USER));
        assert_eq!(root.expand(b"/tmp/../~", &accounts), Ok("/~".into()));
    }
}

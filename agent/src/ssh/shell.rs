//! Which shell runs users' commands.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::platform::shells;

/// What a shell is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To be used by a person.
    Person,
    /// To run one command.
    Command,
}

/// The first that exists and can be executed: of `preferred`, then what the user and the system have for it.
///
/// A name without a directory is looked for in `PATH`, as seen in `environment`.
pub(super) fn choose(
    purpose: Purpose,
    preferred: &[PathBuf],
    environment: &[(OsString, OsString)],
) -> Option<PathBuf> {
    let variable = |name: &str| {
        let found = environment.iter().rfind(|(key, _)| shells::is_variable(key, name));
        found.map(|(_, value)| value.as_os_str())
    };
    let path = variable("PATH").unwrap_or(OsStr::new(shells::DEFAULT_PATH));
    let defaults = match purpose {
        Purpose::Person => shells::FOR_PEOPLE,
        Purpose::Command => shells::FOR_COMMANDS,
    };
    preferred
        .iter()
        .map(PathBuf::as_path)
        .chain(shells::own(variable))
        .chain(defaults.iter().map(Path::new))
        .find_map(|shell| find(shell, path))
}

/// An executable file: at this path, or of this name in one of the directories of `path`.
pub(crate) fn find(shell: &Path, path: &OsStr) -> Option<PathBuf> {
    if shell.as_os_str().is_empty() {
        return None;
    }
    if shell.components().count() > 1 || shell.is_absolute() {
        return shells::executable(shell);
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .find_map(|directory| shells::executable(&directory.join(shell)))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_that_can_be_executed_is_taken() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").expect("the file can be written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("the mode can be set");
            path
        };
        let zsh = program("zsh", 0o755);
        let own = program("own", 0o755);
        let nologin = program("nologin", 0o755);
        program("plain", 0o644);
        let environment = |shell: &Path| {
            vec![("PATH".into(), dir.path().as_os_str().to_owned()), ("SHELL".into(), shell.into())]
        };
        let chosen = |preferred: &[&str], shell: &Path| {
            choose(
                Purpose::Person,
                &preferred.iter().map(PathBuf::from).collect::<Vec<_>>(),
                &environment(shell),
            )
        };

        assert_eq!(chosen(&["missing", "plain", "zsh"], &own), Some(zsh));
        assert_eq!(chosen(&["missing", ""], &own), Some(own.clone()));
        assert_eq!(chosen(&[own.to_str().expect("UTF-8")], &nologin), Some(own.clone()));
        assert_eq!(chosen(&[], &nologin), None, "this PATH has neither bash nor sh");
        let sh = program("sh", 0o755);
        assert_eq!(chosen(&[], &nologin), Some(sh.clone()));
        let bash = program("bash", 0o755);
        assert_eq!(chosen(&[], Path::new("/nonexistent/shell")), Some(bash));
    }
}

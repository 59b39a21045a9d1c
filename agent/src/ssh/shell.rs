//! Which shell runs users' commands.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// Tried after `$SHELL`.
const DEFAULT_SHELLS: [&str; 2] = ["bash", "sh"];

/// Login shells of accounts that must not log in; a container's service user often has one in `$SHELL`.
const NO_SHELLS: [&str; 3] = ["nologin", "false", "true"];

/// The first that exists and can be executed: of `preferred`, then `$SHELL`, bash, sh.
///
/// A name without a slash is looked for in `PATH`, as seen in `environment`.
pub(super) fn choose(preferred: &[PathBuf], environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let variable =
        |name: &str| environment.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
    let path = variable("PATH").unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let own = variable("SHELL")
        .map(Path::new)
        .filter(|shell| !shell.file_name().is_some_and(|name| NO_SHELLS.iter().any(|none| name == *none)));
    preferred
        .iter()
        .map(PathBuf::as_path)
        .chain(own)
        .chain(DEFAULT_SHELLS.iter().map(Path::new))
        .find_map(|shell| find(shell, path))
}

/// An executable file: at this path, or of this name in one of the directories of `path`.
pub(crate) fn find(shell: &Path, path: &OsStr) -> Option<PathBuf> {
    if shell.as_os_str().is_empty() {
        return None;
    }
    if shell.components().count() > 1 || shell.is_absolute() {
        return is_executable(shell).then(|| shell.to_owned());
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(shell))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
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
            choose(&preferred.iter().map(PathBuf::from).collect::<Vec<_>>(), &environment(shell))
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

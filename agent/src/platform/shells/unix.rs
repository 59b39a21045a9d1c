//! `$SHELL`, bash and sh.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use tokio::process::Command;

/// Tried after the user's own when somebody wants a shell.
pub(crate) const FOR_PEOPLE: &[&str] = &["bash", "sh"];
/// The same when somebody wants a command to be run.
pub(crate) const FOR_COMMANDS: &[&str] = FOR_PEOPLE;

/// Where programs are looked for when no variable says it.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Login shells of accounts that must not log in; a container's service user often has one in `$SHELL`.
const NO_SHELLS: [&str; 3] = ["nologin", "false", "true"];

/// The user's own shell, which a variable names; `variable` looks one up.
pub(crate) fn own<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>) -> Option<&'a Path> {
    variable("SHELL")
        .map(Path::new)
        .filter(|shell| !shell.file_name().is_some_and(|name| NO_SHELLS.iter().any(|none| name == *none)))
}

/// Whether a variable has this name.
pub(crate) fn is_variable(variable: &OsStr, name: &str) -> bool {
    variable == name
}

/// The program at this path, if there is one.
pub(crate) fn executable(path: &Path) -> Option<PathBuf> {
    (path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()).then(|| path.to_owned())
}

/// The shell, to run a command line or to be used by a person, with pipes for its input and output.
pub(crate) fn on_pipes(shell: &Path, line: Option<&OsStr>) -> Command {
    let mut command = Command::new(shell);
    command.arg0(shell.file_name().unwrap_or(OsStr::new("sh")));
    if let Some(line) = line {
        command.arg("-c").arg(line);
    }
    command
}

/// The same on a terminal.
pub(crate) fn on_terminal(shell: &Path, line: Option<&OsStr>) -> Command {
    on_pipes(shell, line)
}

/// What runs the command line of a hook.
pub(crate) fn hook(line: &OsStr) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line);
    command
}

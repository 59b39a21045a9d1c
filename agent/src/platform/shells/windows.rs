//! PowerShell for people, `cmd` for commands.
//!
//! A command runs as under OpenSSH for Windows with its default settings: by `cmd /c`, which passes bytes on as they
//! are and has the command's own exit status. A shell that somebody names comes first for both.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Tried when somebody wants a shell.
pub(crate) const FOR_PEOPLE: &[&str] = &["pwsh", "powershell", "cmd"];
/// Tried when somebody wants a command to be run.
pub(crate) const FOR_COMMANDS: &[&str] = &["cmd"];

/// Where programs are looked for when no variable says it.
pub(crate) const DEFAULT_PATH: &str = r"C:\Windows\System32;C:\Windows\System32\WindowsPowerShell\v1.0";

/// What a name without an extension may stand for.
pub(crate) const PROGRAM_EXTENSIONS: &[&str] = &[".exe", ".cmd", ".bat", ".com"];

/// Users have no shell of their own here. A `SHELL` is that of a program that was ported from elsewhere.
pub(crate) fn own<'a>(_: impl Fn(&str) -> Option<&'a OsStr>) -> Option<&'a Path> {
    None
}

/// Whether a variable has this name.
pub(crate) fn is_variable(variable: &OsStr, name: &str) -> bool {
    variable.eq_ignore_ascii_case(name)
}

/// The program at this path, if there is one; `.exe` need not be said.
pub(crate) fn executable(path: &Path) -> Option<PathBuf> {
    if path.extension().is_some() && path.is_file() {
        return Some(path.to_owned());
    }
    let mut with_extension = OsString::from(path);
    with_extension.push(".exe");
    Some(PathBuf::from(with_extension)).filter(|path| path.is_file())
}

/// How a shell wants to be told what to run.
enum Kind {
    Cmd,
    PowerShell,
    /// One that was ported from elsewhere.
    Other,
}

impl Kind {
    fn of(shell: &Path) -> Self {
        let is = |name: &str| shell.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case(name));
        if is("cmd") {
            Self::Cmd
        } else if is("pwsh") || is("powershell") {
            Self::PowerShell
        } else {
            Self::Other
        }
    }
}

/// The shell, to run a command line or to be used by a person, with pipes for its input and output.
pub(crate) fn on_pipes(shell: &Path, line: Option<&OsStr>) -> Command {
    match (Kind::of(shell), line) {
        (Kind::Cmd, Some(line)) => cmd(shell, line),
        _ => on_terminal(shell, line),
    }
}

/// The same on a terminal, where the library quotes every argument: a `"` reaches `cmd` as `\"`.
pub(crate) fn on_terminal(shell: &Path, line: Option<&OsStr>) -> Command {
    let mut command = Command::new(shell);
    match (Kind::of(shell), line) {
        (Kind::PowerShell, None) => command.arg("-NoLogo"),
        (_, None) => &mut command,
        (Kind::Cmd, Some(line)) => command.args(["/s", "/c"]).arg(line),
        (Kind::PowerShell, Some(line)) => command.args(["-NoLogo", "-Command"]).arg(line),
        (Kind::Other, Some(line)) => command.arg("-c").arg(line),
    };
    command
}

/// What runs the command line of a hook.
pub(crate) fn hook(line: &OsStr) -> Command {
    cmd(Path::new("cmd"), line)
}

/// With `/s`, cmd takes away the first quote and the last one, and looks at none between.
fn cmd(shell: &Path, line: &OsStr) -> Command {
    let mut quoted = OsString::from("\"");
    quoted.push(line);
    quoted.push("\"");
    let mut command = Command::new(shell);
    command.args(["/s", "/c"]).raw_arg(quoted);
    command
}

//! Windows: events of a console, threads for standard input and output, and the user's profile.

use super::Base;
use std::{
    io,
    process::{Command, ExitStatus},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    signal::windows::{ctrl_break, ctrl_c, ctrl_close},
};

/// Where the user is at home.
pub(crate) const HOME: &str = "USERPROFILE";
/// The user's own configuration.
pub(crate) const CONFIGURATION: Base = Base { variable: "APPDATA", below_home: r"AppData\Roaming" };
/// What can be found out again.
pub(crate) const CACHE: Base = Base { variable: "LOCALAPPDATA", below_home: r"AppData\Local" };

/// Standard input.
pub(crate) fn input() -> Box<dyn AsyncRead + Unpin + Send> {
    Box::new(tokio::io::stdin())
}

/// Standard output.
pub(crate) fn output() -> Box<dyn AsyncWrite + Unpin + Send> {
    Box::new(tokio::io::stdout())
}

/// Waits for an event that ends programs: Ctrl-C, Ctrl-Break, or the closing of the console.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut stronger, mut close) = (ctrl_c()?, ctrl_break()?, ctrl_close()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = stronger.recv() => {}
            _ = close.recv() => {}
        }
    })
}

/// The same here.
pub(crate) fn quit_signal() -> io::Result<impl Future<Output = ()>> {
    stop_signal()
}

/// A new directory; the user's temporary directory is in their profile, which nobody else can enter.
pub(crate) fn private_directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("converge-").tempdir()
}

/// Runs a program as if it were this one: what is typed is for it, Ctrl-C included.
pub(crate) fn run_in_foreground(command: &mut Command) -> io::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // Who listens for these events once is not ended by them any more.
    let _listening = (ctrl_c()?, ctrl_break()?);
    command.status()
}

/// The exit status; there always is one.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// `text` as one word, for the system's splitting and for ssh's own alike: to the latter a backslash means something,
/// and to the system a slash does as well.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "/").replace('"', ""))
}

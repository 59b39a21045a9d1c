//! Unix systems: signals, descriptors, and the XDG base directory specification.

use super::Base;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::{
    fs::Permissions,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, process::ExitStatusExt},
    },
    process::{Command, ExitStatus},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};

/// Where the user is at home.
pub(crate) const HOME: &str = "HOME";
/// The user's own configuration.
pub(crate) const CONFIGURATION: Base = Base { variable: "XDG_CONFIG_HOME", below_home: ".config" };
/// What can be found out again.
pub(crate) const CACHE: Base = Base { variable: "XDG_CACHE_HOME", below_home: ".cache" };

/// What a pipe is asked to hold, in bytes; the system's own limit may give less. Fewer, larger reads.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1024 * 1024;

/// Standard input, without a blocking thread where it is a pipe, as in a `ProxyCommand`.
pub(crate) fn input() -> Box<dyn AsyncRead + Unpin + Send> {
    match own(io::stdin()).and_then(pipe::Receiver::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        // A terminal, a file or a socket.
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// Standard output, in the same way.
pub(crate) fn output() -> Box<dyn AsyncWrite + Unpin + Send> {
    match own(io::stdout()).and_then(pipe::Sender::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

fn own(stdio: impl AsFd) -> io::Result<OwnedFd> {
    let fd = stdio.as_fd().try_clone_to_owned()?;
    #[cfg(target_os = "linux")]
    // Not a pipe, or not allowed: it works as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE_BYTES);
    Ok(fd)
}

/// Waits for a signal that ends programs: from ssh when it ends, from a terminal that is closed, from a person.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The same without the closing of a terminal, after which a program may be meant to go on.
pub(crate) fn quit_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A new directory that nobody else can enter.
pub(crate) fn private_directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("converge-").permissions(Permissions::from_mode(0o700)).tempdir()
}

/// Runs a program as if it were this one: terminal signals reach it directly, and stopping it stops us.
pub(crate) fn run_in_foreground(command: &mut Command) -> io::Result<ExitStatus> {
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the system gave an impossible process ID"))?;
    loop {
        match waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                // The person typed `~^Z`: stop as well, so that their shell gets the terminal back.
                let _ = kill_process(getpid(), Signal::STOP);
                let _ = kill_process(pid, Signal::CONT);
            }
            Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How a shell reports the end of a program: 128 and the number of the signal that ended it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// `text` as one word, for a shell and for ssh's own splitting alike.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

//! Programs as leaders of process groups.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tracing::debug;

use super::Ending;
use crate::platform::signals::Signal;

/// Serialises making file descriptors that are not yet close-on-exec with starting children.
///
/// The PTY library opens the terminal's control side and marks it close-on-exec in two steps. A child started in
/// between by another thread would inherit it, and the terminal could never hang up again.
static FORK: Mutex<()> = Mutex::new(());

/// Keeps other threads from opening a PTY while a child is started; see [`FORK`]'s comment.
pub(crate) fn fork_lock() -> MutexGuard<'static, ()> {
    // The guarded value is `()`: a panic of another holder leaves nothing half done.
    FORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Children end by the signals that the agent sends when it stops; a job object does this elsewhere.
pub(crate) fn keep_children() {}

/// A program that was started. Dropping it leaves it alone; it is still reaped when it ends, by the runtime.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts a program as leader of a process group of its own.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_beside(command.process_group(0))
    }

    /// Starts a program in the agent's own process group.
    pub(crate) fn start_beside(command: &mut Command) -> io::Result<Self> {
        let _guard = fork_lock();
        Ok(Self::new(command.spawn()?))
    }

    pub(in crate::platform) fn new(child: Child) -> Self {
        Self { child }
    }

    /// Those of its pipes that it has and that were not taken yet.
    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    /// Its number; `None` when it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, and reaps it. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> io::Result<Ending> {
        self.child.wait().await.map(Ending::from)
    }

    /// Whether it has ended, as far as that can be found out.
    pub(crate) fn has_ended(&mut self) -> bool {
        !self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Signals its process group, unless it was reaped: then its number may be somebody else's.
    pub(crate) fn signal(&self, signal: Signal) {
        self.send(signal, kill_process_group);
    }

    /// Signals it alone, unless it was reaped.
    pub(crate) fn signal_alone(&self, signal: Signal) {
        self.send(signal, kill_process);
    }

    /// Tells it that nobody is there any more. It may ignore that.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
        // A stopped program would not notice.
        self.signal(Signal::CONT);
    }

    /// Ends it and its process group, which none of them can ignore.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn send(&self, signal: Signal, kill: fn(Pid, Signal) -> rustix::io::Result<()>) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        if let Err(error) = kill(pid, signal) {
            debug!(%error, signal = signal.as_raw(), "cannot signal a program");
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(number) => Self::Signal { number, core_dumped: status.core_dumped() },
            // There always is one or the other.
            None => Self::Status(status.code().unwrap_or(i32::from(u8::MAX))),
        }
    }
}

/// Becomes another program. Where a system has no such thing, runs it to its end, whose status this is.
pub(crate) fn become_command(command: &mut std::process::Command) -> io::Result<u8> {
    let never: io::Result<Infallible> = Err(command.exec());
    never.map(|never| match never {})
}

/// The name under which the system finds a program of this name.
pub(crate) fn program_name(name: &OsStr) -> OsString {
    name.to_owned()
}

/// In words, why the system says that a file is there and is no program; `None` when it says something else.
pub(crate) fn cannot_be_run(error: &io::Error) -> Option<&'static str> {
    (error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()))
        .then_some("not a program: made for another machine, or a script whose first line is not #!")
}

//! Programs without a terminal, and what all programs have in common.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug};

use super::exit::{Exit, signal_name};
use super::flow::InputReader;
use super::output::{ChannelOutput, Stream};
use crate::place::program::Inside;
use crate::platform::process::{Ending, Environment, Program};
use crate::platform::shells;
use crate::platform::signals::Signal;

/// How long a program that was hung up is waited for. One that ignores SIGHUP was meant to live on (`nohup`); it is
/// still reaped when it ends, by the runtime.
const HANG_UP_TIME: Duration = Duration::from_secs(2);

/// A command line for a shell, or an interactive shell, with its surroundings.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) shell: PathBuf,
    pub(super) command: Option<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) working_dir: PathBuf,
    /// Fires when the agent itself stops.
    pub(super) stopping: CancellationToken,
    /// Set when it runs in a container, where shell, environment and directory are others.
    pub(super) inside: Option<Inside>,
}

impl Launch {
    /// What is run with pipes for input and output.
    pub(super) fn command(&self) -> Command {
        self.surrounded(shells::on_pipes)
    }

    /// What is run on a terminal, and what its environment is.
    pub(super) fn command_on_terminal(&self) -> (Command, Environment) {
        let environment = if self.inside.is_some() { Environment::Added } else { Environment::Whole };
        (self.surrounded(shells::on_terminal), environment)
    }

    fn surrounded(&self, shell: fn(&Path, Option<&OsStr>) -> Command) -> Command {
        if let Some(inside) = &self.inside {
            return inside.command();
        }
        let mut command = shell(&self.shell, self.command.as_deref());
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.working_dir);
        command
    }

    /// What the user is told when the program cannot be started.
    pub(super) fn failure(&self, error: &io::Error) -> String {
        if self.inside.is_some() {
            let tool = self.command();
            let tool = tool.as_std().get_program().display();
            return format!("converge-agent: cannot start {tool}: {error}\r\n");
        }
        format!(
            "converge-agent: cannot start {} in {}: {error}\r\n",
            self.shell.display(),
            self.working_dir.display()
        )
    }
}

/// Signals that the client asks for.
pub(super) type SignalRequests = mpsc::Receiver<Signal>;

/// Runs a program with three pipes. `None`: it was hung up, and there is nobody to be told how it ended.
pub(super) async fn run(
    launch: &Launch,
    input: InputReader,
    output: &ChannelOutput,
    mut signals: SignalRequests,
    cancel: &CancellationToken,
) -> io::Result<Option<Exit>> {
    let mut command = launch.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Program::start(&mut command)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = child.take_pipes() else {
        return Err(io::Error::other("a pipe is missing"));
    };
    // A task of its own: a program that does not read must not stop its own output.
    let _feeder = AbortOnDropHandle::new(tokio::spawn(feed(input, stdin).in_current_span()));
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        (status, (), ()) = async { tokio::join!(
            wait(&mut child, launch, &mut signals),
            output.copy(stdout, Stream::Stdout),
            output.copy(stderr, Stream::Stderr),
        ) } => Some(status?),
    };
    if ended.is_none() {
        hang_up(&mut child, launch).await;
    }
    Ok(ended.map(Exit::new))
}

/// Writes what the client sends to a program; the sink is closed at the end of the input.
///
/// When the program does not read any more, the rest is discarded, so that the client is not stopped in mid-file:
/// it still has to see the program's output and exit status.
async fn feed<W: AsyncWrite + Unpin>(mut input: InputReader, mut sink: W) {
    while let Some(chunk) = input.next().await {
        if sink.write_all(&chunk).await.is_err() {
            discard(input).await;
            return;
        }
    }
}

/// Takes and drops everything.
pub(super) async fn discard(mut input: InputReader) {
    while input.next().await.is_some() {}
}

/// Waits for a program to exit, and passes signals on to its process group meanwhile. Cancel-safe.
pub(super) async fn wait(
    child: &mut Program,
    launch: &Launch,
    signals: &mut SignalRequests,
) -> io::Result<Ending> {
    loop {
        let signal = tokio::select! {
            biased;
            status = child.wait() => return status,
            Some(signal) = signals.recv() => signal,
        };
        let Some(inside) = &launch.inside else {
            child.signal(signal);
            continue;
        };
        let name = signal_name(signal.as_raw());
        tokio::select! {
            biased;
            status = child.wait() => return status,
            () = inside.signal(&name) => {}
        }
    }
}

/// Ends a program whose session has ended. One that ignores it may live on, unless the agent itself is stopping.
pub(super) async fn hang_up(child: &mut Program, launch: &Launch) {
    if let Some(inside) = &launch.inside {
        return inside.hang_up(child, &launch.stopping).await;
    }
    child.hang_up();
    if timeout(HANG_UP_TIME, child.wait()).await.is_err() {
        debug!(pid = child.id(), "a program ignores that its session has ended");
        if launch.stopping.is_cancelled() {
            child.kill();
            // Nothing ignores this one; waiting is reaping.
            let _ = child.wait().await;
        }
    }
}

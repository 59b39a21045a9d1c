//! A step of a CI job, run by the agent as if the agent were not there.
//!
//! The step inherits stdin, stdout and stderr, so its output is what it would have been, byte for byte and at once,
//! and it can ask whether it writes to a terminal. The exit status is the one a shell would report. What the step
//! leaves running in the background is its own business and left alone.
//!
//! # Signals
//!
//! Whoever cancels the job signals the agent, which passes that on. To whom depends on whether there is a terminal,
//! that is, whether stdin, stdout or stderr is one:
//!
//! - **Without one**, as in nearly every CI job, the step leads a process group of its own and every signal goes to
//!   all of that group, as from a runner that ends everything. The price: a runner that ends a job by SIGKILL to its
//!   process group misses the step, if the step has ignored the SIGTERM that comes before.
//! - **With one**, the step stays in the agent's process group. A terminal lets only its foreground group read from
//!   it, so a group of its own would stop the step at once. And the terminal itself sends Ctrl-C, Ctrl-\ and a new
//!   size to everybody in the foreground group: passed on again they would come twice, so they are not. What does not
//!   come from the keyboard is passed on, to the step alone, for the group is also that of whoever started the agent.
//!   Ctrl-Z stops agent and step together, and `fg` continues both, without anything being done here. The price: a
//!   SIGINT or SIGQUIT that somebody sends to the agent alone does not reach a step that has a terminal; SIGTERM
//!   does. And a shell that hangs up its jobs sends SIGHUP to both, so that it comes twice.
//!
//! A signal that is listened for once is never the end of this process again (the runtime does not give handlers
//! back): whoever goes on after a step and wants to end on SIGHUP, say, has to listen for it.
//!
//! Call [`reset_signals`](crate::platform::signals::reset_signals) before, or the step may be born deaf to Ctrl-C.

use crate::{
    platform::process::{Ending, cannot_be_run, program_name},
    platform::signals::Signal,
    platform::step_signals::{StepSignals, Terminal},
};
use clap::ValueEnum;
use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};
use tokio::process::Command;

mod command_line;

pub use command_line::StepCommand;

/// What shells report for a command that is not there.
const STATUS_NOT_FOUND: u8 = 127;
/// What shells report for a command that is there and cannot be run.
const STATUS_NOT_EXECUTABLE: u8 = 126;

/// How long is looked for a signal that came together with the end of the step.
///
/// Who stops both, as Ctrl-C does, must not be offered a session because the step was seen to end first. The kernel
/// has handed us our signal before it tells of the step's end; what is needed is one more round of the runtime's
/// driver, which reads signals before it fires timers. So any time above zero would do.
const LAST_LOOK: Duration = Duration::from_millis(5);

/// A command that is to be run as a step of the job.
#[derive(Clone, Debug)]
pub struct Step {
    argv: Vec<OsString>,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepEnd {
    /// Its exit status as a shell reports it: 128 and the signal's number when a signal ended it, 127 when the command
    /// was not found, 126 when it could not be run.
    pub exit_code: u8,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
    /// The number of the signal, SIGINT or SIGTERM, that asked this process to stop while the step ran.
    pub stop_signal: Option<i32>,
    /// How long it ran.
    pub duration: Duration,
    /// What was run, and where; displays as text for people.
    pub command: StepCommand,
}

impl StepEnd {
    /// Whether somebody wants the job to end, so that no session may be opened.
    pub fn is_told_to_stop(&self) -> bool {
        self.stop_signal.is_some()
    }

    /// Whether it ended with status 0.
    pub fn is_success(&self) -> bool {
        self.exit_code == 0
    }
}

/// On which ends of a step a session is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OpenOn {
    /// When the step fails.
    #[default]
    Failure,
    /// When the step succeeds.
    Success,
    /// However the step ends.
    Always,
    /// Never: the step alone.
    Never,
}

impl OpenOn {
    /// Whether a session is to be opened. Never after being told to stop.
    pub fn opens(self, end: &StepEnd) -> bool {
        let matches = match self {
            Self::Failure => !end.is_success(),
            Self::Success => end.is_success(),
            Self::Always => true,
            Self::Never => false,
        };
        matches && !end.is_told_to_stop()
    }
}

/// Whether this process, and so the step, has a terminal.
fn terminal() -> Terminal {
    let is_there = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    if is_there { Terminal::Shared } else { Terminal::None }
}

impl Step {
    /// A program, searched in `PATH` unless there is a slash in its name, and its arguments.
    pub fn new(argv: Vec<OsString>) -> Self {
        Self { argv }
    }

    /// Runs the step in this process' working directory and waits for its end.
    ///
    /// A command that cannot be run is not an error but an end with status 126 or 127, and a line on stderr. Not
    /// cancel-safe: a step whose `run` is dropped goes on without anybody to wait for it.
    ///
    /// # Errors
    /// When there is no command, the working directory is gone, or the system has no more processes or memory.
    pub async fn run(self) -> io::Result<StepEnd> {
        let command = StepCommand::new(self.argv, std::env::current_dir()?)?;
        // Before there is a child: no signal is to be lost, nor to end us and leave the child behind.
        let mut signals = StepSignals::listen(terminal())?;
        let started = Instant::now();
        let mut stop_signal = None;
        let status = match signals.start(&mut program(&command)) {
            Ok(mut child) => loop {
                tokio::select! {
                    biased; // A child that has ended is not signalled.
                    status = child.wait() => break Outcome::from(status?),
                    signal = signals.next() => {
                        stop_signal = stop_signal.or(as_stop(signal));
                        signals.pass_on(signal, &mut child);
                    }
                }
            },
            Err(error) => not_run(&command, error)?,
        };
        let duration = started.elapsed();
        let last_look = tokio::time::sleep(LAST_LOOK);
        tokio::pin!(last_look);
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => stop_signal = stop_signal.or(as_stop(signal)),
                () = &mut last_look => break,
            }
        }
        let Outcome { exit_code, signal } = status;
        Ok(StepEnd { exit_code, signal, stop_signal, duration, command })
    }
}

/// The part of an end that the child itself decides.
struct Outcome {
    exit_code: u8,
    signal: Option<i32>,
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        let (code, signal) = match ending {
            Ending::Status(code) => (code, None),
            Ending::Signal { number, .. } => (128 + number, Some(number)),
        };
        Self { exit_code: u8::try_from(code).unwrap_or(u8::MAX), signal }
    }
}

fn program(step: &StepCommand) -> Command {
    let mut command = Command::new(program_name(step.program()));
    command.args(step.arguments());
    command
}

/// What a shell makes of a command that it cannot run, with the line it writes.
fn not_run(step: &StepCommand, error: io::Error) -> io::Result<Outcome> {
    let has_path = Path::new(step.program()).components().count() > 1;
    let (exit_code, what) = match error.kind() {
        io::ErrorKind::NotFound if has_path => (STATUS_NOT_FOUND, "no such file".to_owned()),
        io::ErrorKind::NotFound => (STATUS_NOT_FOUND, "command not found".to_owned()),
        io::ErrorKind::NotADirectory => (STATUS_NOT_FOUND, "not a directory".to_owned()),
        // Not this command's fault: no process could be made, or no memory for one.
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => return Err(error),
        io::ErrorKind::PermissionDenied => (STATUS_NOT_EXECUTABLE, "permission denied".to_owned()),
        _ => {
            let why = cannot_be_run(&error).map_or_else(|| error.to_string(), str::to_owned);
            (STATUS_NOT_EXECUTABLE, why)
        }
    };
    // If nobody reads stderr, the status still says it.
    let _ = writeln!(io::stderr(), "converge-agent: {}: {what}", step.quoted_program());
    Ok(Outcome { exit_code, signal: None })
}

/// The signals that ask for the end of the job.
fn as_stop(signal: Signal) -> Option<i32> {
    (signal == Signal::INT || signal == Signal::TERM).then_some(signal.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(exit_code: u8, stop_signal: Option<i32>) -> StepEnd {
        let command = StepCommand::new(vec!["true".into()], "/".into()).unwrap();
        StepEnd { exit_code, signal: None, stop_signal, duration: Duration::ZERO, command }
    }

    #[test]
    fn conditions_are_a_table() {
        let table = [
            (OpenOn::Failure, [false, true, false]),
            (OpenOn::Success, [true, false, false]),
            (OpenOn::Always, [true, true, false]),
            (OpenOn::Never, [false, false, false]),
        ];
        for (condition, expected) in table {
            let ends = [end(0, None), end(7, None), end(143, Some(15))];
            assert_eq!(ends.map(|end| condition.opens(&end)), expected, "{condition:?}");
        }
        assert!(!OpenOn::Success.opens(&end(0, Some(2))));
        assert_eq!(OpenOn::default(), OpenOn::Failure);
    }

    #[test]
    fn status_is_the_one_a_shell_reports() {
        let by = |number| Ending::Signal { number, core_dumped: false };
        for (ending, expected) in [
            (Ending::Status(0), (0, None)),
            (Ending::Status(7), (7, None)),
            (Ending::Status(255), (255, None)),
            (by(15), (143, Some(15))),
            (by(9), (137, Some(9))),
        ] {
            let Outcome { exit_code, signal } = ending.into();
            assert_eq!((exit_code, signal), expected);
        }
    }
}

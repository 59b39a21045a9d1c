//! Programs that the agent starts, and how they are ended with all that they have started themselves.

use std::fmt;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Program, become_command, cannot_be_run, fork_lock, keep_children, program_name};
#[cfg(windows)]
pub(crate) use windows::{Program, become_command, cannot_be_run, keep_children, program_name};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this status.
    Status(i32),
    /// By a signal.
    Signal { number: i32, core_dumped: bool },
}

impl Ending {
    /// Its status, when it ended by itself.
    pub(crate) fn status(self) -> Option<i32> {
        match self {
            Self::Status(status) => Some(status),
            Self::Signal { .. } => None,
        }
    }

    pub(crate) fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status: {status}"),
            Self::Signal { number, .. } => write!(f, "signal: {number}"),
        }
    }
}

/// What a command is given as its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// All that there is.
    Whole,
    /// What comes on top of the agent's own.
    Added,
}

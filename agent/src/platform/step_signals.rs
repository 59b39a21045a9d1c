//! The signals that come while a step of the job runs, and whom they are passed on to; see [`step`](crate::job::step).

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::StepSignals;
#[cfg(windows)]
pub(crate) use windows::StepSignals;

/// Whether the step has a terminal, which it then shares with the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Terminal {
    None,
    Shared,
}

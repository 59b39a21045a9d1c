//! What tells an agent to stop.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::StopSignals;
#[cfg(windows)]
pub(crate) use windows::StopSignals;

//! Signals: their names, and those that were ignored when the agent was started.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Ignored, Signal, reset_signals};
#[cfg(windows)]
pub use windows::{Ignored, Signal, reset_signals};

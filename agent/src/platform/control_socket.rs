//! Where an agent listens for programs inside its sessions: a place that its agent directory leads to, and that only
//! the agent's own user can enter.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{ControlListener, exchange};
#[cfg(windows)]
pub(crate) use windows::{ControlListener, exchange};

/// The name of the socket in the agent directory, or of the file that says where it is.
const FILE: &str = "control";

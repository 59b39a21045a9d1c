//! Signals to a child, or to its whole process group.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;
use tracing::debug;

/// Signals the process group that a child leads, unless it was reaped: then its number may be somebody else's.
pub(crate) fn signal_group(child: &Child, signal: Signal) {
    send(child, signal, kill_process_group);
}

/// Signals a child alone, unless it was reaped.
pub(crate) fn signal_child(child: &Child, signal: Signal) {
    send(child, signal, kill_process);
}

fn send(child: &Child, signal: Signal, kill: fn(Pid, Signal) -> rustix::io::Result<()>) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { return };
    if let Err(error) = kill(pid, signal) {
        debug!(%error, signal = signal.as_raw(), "cannot signal a child");
    }
}

//! Signals that were ignored when the agent was started, and must not stay ignored in users' shells.
//!
//! A CI step that starts the agent with `&` from a script gives it SIGINT and SIGQUIT ignored, `nohup` does so with
//! SIGHUP. An ignored signal stays ignored across `exec`, so without a cure Ctrl-C would do nothing in any shell of
//! any session, and hanging up a session would end nothing. A *caught* signal goes back to its default on `exec`,
//! which is what is used here: `unsafe` code between fork and exec is not needed for it.

use std::io;

pub use rustix::process::Signal;
use tokio::signal::unix::SignalKind;

/// The signals a shell and its jobs rely on.
const USERS_SIGNALS: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
];

/// Makes sure that children start with default actions for the signals a user needs.
///
/// Call it once at the start of the program, inside the tokio runtime, before any child is started. For this process
/// nothing changes: a signal that was ignored is now caught and dropped, all others are left alone, so that Ctrl-C
/// still ends an agent in the foreground and other handlers can be installed before or after.
///
/// Where the system does not tell which signals are ignored (no `/proc`), SIGINT, SIGQUIT and SIGHUP are all taken
/// for ignored; a program that wants them has to listen for them, as ours does.
///
/// # Errors
///
/// When a handler cannot be installed.
pub fn reset_signals() -> io::Result<Ignored> {
    let ignored = Ignored { mask: ignored_signals() };
    for signal in USERS_SIGNALS {
        if ignored.has(signal) {
            // tokio never takes a handler away again, so the listener itself is not needed.
            drop(tokio::signal::unix::signal(SignalKind::from_raw(signal.as_raw()))?);
            tracing::debug!(signal = signal.as_raw(), "was ignored, children will have its default action");
        }
    }
    Ok(ignored)
}

/// Which signals were ignored when the program was started.
#[derive(Clone, Copy, Debug)]
pub struct Ignored {
    mask: Option<u64>,
}

impl Ignored {
    /// Whether this one was; where the system does not tell, the three that scripts switch off are taken for it.
    pub fn has(self, signal: Signal) -> bool {
        match self.mask {
            Some(mask) => mask & (1 << (signal.as_raw() - 1)) != 0,
            None => matches!(signal, Signal::HUP | Signal::INT | Signal::QUIT),
        }
    }
}

/// The mask of ignored signals of this process; bit n-1 is signal n.
fn ignored_signals() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_programs_ignore_sigpipe_and_the_mask_says_so() {
        let mask = ignored_signals().expect("Linux has /proc");
        assert_ne!(mask & (1 << (Signal::PIPE.as_raw() - 1)), 0);
    }
}

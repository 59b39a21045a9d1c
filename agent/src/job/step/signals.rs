//! The signals that are passed on to a step.

use super::Terminal;
use rustix::process::Signal;
use std::{future::poll_fn, io, task::Poll};
use tokio::signal::unix::{self, SignalKind};

/// Without a terminal: everything that somebody may send on purpose to a step, to stop and continue it included.
const WITHOUT_TERMINAL: [Signal; 8] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::CONT,
];

/// With one: SIGTSTP has its default action, so that the shell which started us sees its whole job stop; SIGCONT and
/// SIGWINCH reach the step by themselves. SIGINT and SIGQUIT are caught so that we outlive the step, and not passed on.
const WITH_TERMINAL: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(super) fn listen(terminal: Terminal) -> io::Result<Self> {
        let signals = match terminal {
            Terminal::None => &WITHOUT_TERMINAL[..],
            Terminal::Shared => &WITH_TERMINAL,
        };
        let listening =
            signals.iter().map(|signal| Ok((*signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?)));
        Ok(Self(listening.collect::<io::Result<_>>()?))
    }

    /// The next signal. Equal ones that come faster than they are taken are one, as signals are. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut ready =
                self.0.iter_mut().filter_map(|(signal, listener)| match listener.poll_recv(context) {
                    Poll::Ready(Some(())) => Some(*signal),
                    Poll::Ready(None) | Poll::Pending => None,
                });
            ready.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

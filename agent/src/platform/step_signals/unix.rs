//! Signals of Unix systems.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind};

use super::Terminal;
use crate::platform::process::Program;
use crate::platform::signals::Signal;

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

pub(crate) struct StepSignals {
    terminal: Terminal,
    listening: Vec<(Signal, unix::Signal)>,
}

impl StepSignals {
    pub(crate) fn listen(terminal: Terminal) -> io::Result<Self> {
        let signals = match terminal {
            Terminal::None => &WITHOUT_TERMINAL[..],
            Terminal::Shared => &WITH_TERMINAL,
        };
        let listening =
            signals.iter().map(|signal| Ok((*signal, unix::signal(SignalKind::from_raw(signal.as_raw()))?)));
        Ok(Self { terminal, listening: listening.collect::<io::Result<_>>()? })
    }

    /// Starts the step.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Program> {
        match self.terminal {
            Terminal::None => Program::start(command),
            Terminal::Shared => Program::start_beside(command),
        }
    }

    /// The next signal. Equal ones that come faster than they are taken are one, as signals are. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut ready = self.listening.iter_mut().filter_map(|(signal, listener)| {
                match listener.poll_recv(context) {
                    Poll::Ready(Some(())) => Some(*signal),
                    Poll::Ready(None) | Poll::Pending => None,
                }
            });
            ready.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Passes a signal on to a step that was started with this terminal.
    pub(crate) fn pass_on(&self, signal: Signal, step: &mut Program) {
        match self.terminal {
            Terminal::None => step.signal(signal),
            // These two come from the keyboard, and the step has them already.
            Terminal::Shared if signal == Signal::INT || signal == Signal::QUIT => {}
            Terminal::Shared => step.signal_alone(signal),
        }
    }
}

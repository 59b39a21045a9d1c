//! Events of a console. All programs of the console get each of them, so nothing is passed on.

use std::io;

use tokio::process::Command;

use super::Terminal;
use crate::platform::process::Program;
use crate::platform::signals::{Ignored, Signal};
use crate::platform::stop_signals::StopSignals;

pub(crate) struct StepSignals(StopSignals);

impl StepSignals {
    pub(crate) fn listen(_: Terminal) -> io::Result<Self> {
        StopSignals::new(Ignored).map(Self)
    }

    /// Starts the step in the agent's console, in which its events come.
    #[expect(clippy::unused_self, reason = "elsewhere it depends on the terminal")]
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Program> {
        Program::start_beside(command)
    }

    /// What the next event stands for. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        if self.0.next().await == Signal::INT.as_raw() { Signal::INT } else { Signal::TERM }
    }

    /// The step has it already.
    #[expect(clippy::unused_self, reason = "elsewhere it is passed on")]
    pub(crate) fn pass_on(&self, _signal: Signal, _step: &mut Program) {}
}

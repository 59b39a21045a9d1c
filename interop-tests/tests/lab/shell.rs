//! A session in a terminal, to see whether a person could go on typing.

use anyhow::Result;
use converge_interop_tests::{Agent, Lab, Terminal};
use std::time::{Duration, Instant};

/// A session that answers each line it gets.
pub(crate) struct Shell {
    terminal: Terminal,
    lines: u32,
}

impl Shell {
    /// Where the client logs.
    pub(crate) const LOG: &str = "shell";

    /// Opens one from the laptop, on a carrier or `auto`.
    pub(crate) fn open(lab: &Lab, agent: &Agent, carrier: &str) -> Result<Self> {
        let mut command = lab.openssh("ssh", agent)?;
        command.env("CONVERGE_TRANSPORT", carrier);
        // Without the terminal's own echo, or the question would look like the answer.
        command.args(["-t", "stty -echo; echo ready; while read line; do echo \"got $line\"; done"]);
        let mut terminal = lab.open_terminal(Self::LOG, &command)?;
        terminal.expect("ready")?;
        Ok(Self { terminal, lines: 0 })
    }

    /// Types a line, and returns how long the answer took.
    pub(crate) fn type_line(&mut self) -> Result<Duration> {
        self.lines += 1;
        let start = Instant::now();
        self.terminal.type_text(&format!("line {}\r", self.lines))?;
        let before = self.terminal.expect(&format!("got line {}\r\n", self.lines))?;
        assert!(before.trim().is_empty(), "nothing else is there: {before:?}");
        Ok(start.elapsed())
    }

    /// Ends the session as a person does.
    pub(crate) fn end(self) -> Result<()> {
        self.terminal.type_text("\x04")?;
        let (rest, status) = self.terminal.finish()?;
        assert!(status.success(), "{status}: {rest:?}");
        Ok(())
    }
}

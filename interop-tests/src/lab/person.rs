//! What the person at the laptop does.

use super::Lab;
use crate::{
    process::{Output, Process},
    programs,
    setup::{Agent, clean, ssh_options},
    terminal::Terminal,
};
use anyhow::Result;
use std::{ffi::OsStr, process::Command};

impl Lab {
    /// `converge`, for the laptop.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn converge(&self) -> Result<Command> {
        let mut command = Command::new(programs::own("converge")?);
        clean(command.current_dir(self.path()));
        // What a proxy has to do with it, a scenario says.
        for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name);
        }
        command.env("TMPDIR", self.path());
        Ok(command)
    }

    /// `converge ssh`, `converge sftp` or `converge scp` to an agent, with the person's key and nothing of this machine's
    /// ssh configuration; the program's own arguments follow.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh(&self, program: &str, agent: &Agent) -> Result<Command> {
        let mut command = self.converge()?;
        command.args([program, &agent.address]).args(ssh_options(&self.key()));
        Ok(command)
    }

    /// Runs ssh on the laptop, to its end.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn ssh(&self, agent: &Agent, command: &[impl AsRef<OsStr>]) -> Result<Output> {
        self.laptop().run(self.openssh("ssh", agent)?.args(command), b"")
    }

    /// Starts ssh on the laptop, whose input is written in lines. Its log is `name.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_ssh(&self, name: &str, agent: &Agent, command: &str) -> Result<Process> {
        self.laptop().start(name, self.openssh("ssh", agent)?.arg(command))
    }

    /// Starts sftp on the laptop with this batch of commands. Its log is `sftp.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_sftp(&self, agent: &Agent, batch: &str) -> Result<Process> {
        let mut sftp = self.laptop().start("sftp", self.openssh("sftp", agent)?.args(["-b", "-"]))?;
        for line in batch.lines() {
            sftp.write_line(line)?;
        }
        sftp.end_input();
        Ok(sftp)
    }

    /// Opens a terminal on the laptop with ssh in it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open_terminal(&self, agent: &Agent) -> Result<Terminal> {
        let command = self.openssh("ssh", agent)?;
        self.laptop().enter(|| Terminal::open(command, 24, 80))
    }
}

//! What the person at the laptop does.

use super::Lab;
use crate::{
    process::{Output, Process},
    programs,
    setup::{Agent, clean, ssh_options},
    terminal::Terminal,
};
use anyhow::Result;
use std::{ffi::OsStr, fs, process::Command};

impl Lab {
    /// `converge`, for the laptop, which says on standard error what becomes of the session.
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
        command.env("TMPDIR", self.path()).env("CONVERGE_LOG", "info");
        Ok(command)
    }

    /// `converge ssh`, `converge sftp` or `converge scp` to an agent, with the person's key and nothing of this machine's
    /// ssh configuration; the program's own arguments follow.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh(&self, program: &str, agent: &Agent) -> Result<Command> {
        self.openssh_to(program, &agent.address)
    }

    /// The same, to another address.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh_to(&self, program: &str, address: &str) -> Result<Command> {
        let mut command = self.converge()?;
        command.args([program, address]).args(ssh_options(&self.key()));
        Ok(command)
    }

    /// Runs ssh on the laptop, to its end.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn ssh(&self, agent: &Agent, command: &[impl AsRef<OsStr>]) -> Result<Output> {
        self.laptop().run(self.openssh("ssh", agent)?.args(command), b"")
    }

    /// Starts sftp on the laptop with this batch of commands, on a carrier or `auto`. Its log is `sftp.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_sftp(&self, agent: &Agent, carrier: &str, batch: &str) -> Result<Process> {
        let mut sftp = self.openssh("sftp", agent)?;
        sftp.env("CONVERGE_TRANSPORT", carrier).args(["-b", "-"]);
        let mut sftp = self.laptop().start("sftp", &mut sftp)?;
        for line in batch.lines() {
            sftp.write_line(line)?;
        }
        sftp.end_input();
        Ok(sftp)
    }

    /// Opens a terminal on the laptop with a command in it, whose standard error goes to `name.log`: what the client has
    /// to say must not get between what the job says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open_terminal(&self, name: &str, command: &Command) -> Result<Terminal> {
        let command = Agent::by_shell(&format!("exec \"$0\" \"$@\" 2>> {name}.log"), command);
        self.laptop().enter(|| Terminal::open(command, 24, 80))
    }

    /// What `name.log` holds so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

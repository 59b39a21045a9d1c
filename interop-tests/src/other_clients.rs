//! What ssh clients need that `converge` does not start.

use crate::{Setup, process, programs};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

impl Setup {
    /// A program of OpenSSH's with the block of `converge config`; options and [`host`](Setup::host) follow. A test
    /// that kills it kills ssh itself.
    ///
    /// # Errors
    /// When it is not installed, or `converge config` fails.
    pub fn configured(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(programs::installed(program)?);
        command.current_dir(self.path()).arg("-F").arg(self.ssh_config()?);
        Ok(command)
    }

    /// Waits until the agent has no session. Before a relay goes, as clients would look for it for long.
    ///
    /// # Errors
    /// When sessions stay.
    pub fn wait_for_the_end_of_sessions(&self) -> Result<()> {
        let ends = |log: &str| log.matches("session ends").count();
        self.agent
            .process
            .wait_for_log("the end of all sessions", |log| ends(log) == log.matches("session begins").count())
    }

    /// Our client as a command whose standard input and output lead to the agent.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn proxy_command(&self) -> Result<Vec<String>> {
        let converge = programs::own("converge")?.display().to_string();
        let carrier = self.carrier.to_string();
        Ok([&converge, "--transport", &carrier, "proxy", &self.agent.address].map(str::to_owned).to_vec())
    }

    /// The same, as a line for a shell.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn proxy_line(&self) -> Result<String> {
        let quoted: Vec<_> = self.proxy_command()?.iter().map(|word| format!("'{word}'")).collect();
        Ok(quoted.join(" "))
    }

    /// A `known_hosts` file in which the agent's key stands under this name.
    ///
    /// # Errors
    /// When `converge host-key` fails.
    pub fn known_hosts(&self, name: &str) -> Result<PathBuf> {
        let asked = process::run(self.converge()?.args(["host-key", &self.agent.address]), b"")?;
        let line = asked.success()?.text();
        let (_, key) = line.trim().split_once(' ').context("a known_hosts line")?;
        let file = self.path().join(format!("known_hosts-{name}"));
        fs::write(&file, format!("{name} {key}\n"))?;
        Ok(file)
    }
}

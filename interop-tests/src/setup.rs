//! A relay, an agent and a key, in a directory of their own.

use crate::{process::Process, programs};
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// What both legs of a session run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC.
    Quic,
    /// WebSocket.
    WebSocket,
}

impl Carrier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Quic, Self::WebSocket];
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
        })
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    /// The process.
    pub process: Process,
    /// What it printed: `https://127.0.0.1:PORT#pin-sha256=…`.
    pub url: String,
    /// Its cleartext listener: `ws://127.0.0.1:PORT`.
    pub http: String,
}

impl Relay {
    /// Starts a relay with its state in `directory`, on any free port.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_on(directory, "127.0.0.1:0")
    }

    /// The same, on a given address.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_on(directory: &Path, listen: &str) -> Result<Self> {
        let mut command = Command::new(programs::own("converge-relay")?);
        command
            .args(["--listen", listen, "--http", "127.0.0.1:0", "--state-dir"])
            .arg(directory.join("relay-state"));
        let mut process = Process::start("relay", clean(&mut command), directory)?;
        let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
        let http =
            process.wait_for("its cleartext URL", |line| line.strip_prefix("http:  ").map(str::to_owned))?;
        Ok(Self { process, url, http })
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub process: Process,
    /// The whole address it printed.
    pub address: String,
    /// The ID in it.
    pub id: String,
    /// The line for plain ssh it printed.
    pub plain_ssh: String,
}

impl Agent {
    /// Starts an agent in `job` with these arguments, and waits until it can be reached. Its log is in `logs`.
    ///
    /// # Errors
    /// When it does not say how it can be reached.
    pub fn start<A: AsRef<OsStr>>(
        job: &Path,
        logs: &Path,
        relay: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut command = Command::new(programs::own("converge-agent")?);
        command.current_dir(job).args(["--relay", relay]).args(arguments);
        let mut process = Process::start("agent", clean(&mut command), logs)?;
        let address = process.wait_for("its address", |line| {
            Some(line.trim().strip_prefix("converge ssh '")?.strip_suffix('\'')?.to_owned())
        })?;
        let plain_ssh = process.wait_for("a line for plain ssh", |line| {
            line.trim().starts_with("ssh ").then(|| line.trim().to_owned())
        })?;
        let id = address
            .split_once("/client/")
            .and_then(|(_, rest)| rest.split_once('.'))
            .map(|(id, _)| id.to_owned());
        let id = id.context("the address has an ID and a fingerprint")?;
        Ok(Self { process, address, id, plain_ssh })
    }
}

/// A relay with one agent, and a person with a key.
#[derive(Debug)]
pub struct Setup {
    /// The agent. Before the relay, so that it is ended first.
    pub agent: Agent,
    /// The relay.
    pub relay: Relay,
    /// What both legs run on.
    pub carrier: Carrier,
    directory: TempDir,
}

impl Setup {
    /// Starts all of it.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub fn start(carrier: Carrier) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("converge-test-").tempdir()?;
        let key = directory.path().join("key");
        make_key(&key)?;
        let job = directory.path().join("job");
        fs::create_dir(&job)?;
        fs::copy(key.with_extension("pub"), job.join(".authorized_keys"))?;
        let relay = Relay::start(directory.path())?;
        let agent = Agent::start(&job, directory.path(), &relay.url, ["--transport", &carrier.to_string()])?;
        Ok(Self { agent, relay, carrier, directory })
    }

    /// The directory of it all, for further files.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory in which the agent runs.
    pub fn job(&self) -> PathBuf {
        self.path().join("job")
    }

    /// The person's private key.
    pub fn key(&self) -> PathBuf {
        self.path().join("key")
    }

    /// `converge`, on this setup's carrier.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn converge(&self) -> Result<Command> {
        let mut command = Command::new(programs::own("converge")?);
        command.current_dir(self.path()).args(["--transport", &self.carrier.to_string()]);
        clean(&mut command);
        Ok(command)
    }

    /// `converge ssh`, `converge sftp` or `converge scp` with the person's key and nothing of this machine's ssh
    /// configuration; the program's own arguments follow.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh(&self, program: &str) -> Result<Command> {
        let mut command = self.converge()?;
        command.args([program, &self.agent.address]).args(self.ssh_options());
        Ok(command)
    }

    /// What keeps OpenSSH to this setup's key and away from this machine's configuration.
    pub fn ssh_options(&self) -> Vec<String> {
        let key = self.key().display().to_string();
        ["-F", "none", "-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Makes a key pair for a person.
///
/// # Errors
/// When ssh-keygen fails.
pub fn make_key(path: &Path) -> Result<()> {
    let mut command = Command::new(programs::installed("ssh-keygen")?);
    let status = command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "ssh-keygen failed: {status}");
    Ok(())
}

/// Takes this machine's own settings out of a command's environment.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CONVERGE_") || name_text == "SSH_AUTH_SOCK" {
            command.env_remove(&name);
        }
    }
    command
}

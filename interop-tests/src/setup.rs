//! A relay, an agent and a key, in a directory of their own.

use crate::{
    loopback::lasting_port,
    process::{self, Process},
    programs,
};
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

const ANY_PORT: &str = "127.0.0.1:0";

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
        Self::start_on(directory, ANY_PORT)
    }

    /// The same, on a given address.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_on(directory: &Path, listen: &str) -> Result<Self> {
        Self::start_as("relay", &mut Self::command(directory, listen)?, directory)
    }

    /// As [`start_on`](Self::start_on), with further arguments.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_with<A: AsRef<OsStr>>(
        directory: &Path,
        listen: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut command = Self::command(directory, listen)?;
        Self::start_as("relay", command.args(arguments), directory)
    }

    /// The command that starts a relay with its state in `directory`, for more arguments and variables. Any free port,
    /// `127.0.0.1:0`, is one to which it can come back.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command(directory: &Path, listen: &str) -> Result<Command> {
        let lasting = if listen == ANY_PORT { Some(lasting_port()?.to_string()) } else { None };
        let listen = lasting.as_deref().unwrap_or(listen);
        let mut command = Command::new(programs::own("converge-relay")?);
        // A slow machine must not cut sessions that a test lets finish.
        clean(&mut command).args(["--listen", listen, "--drain-timeout", "50s", "--state-dir"]);
        command.arg(Self::state(directory));
        Ok(command)
    }

    /// What its state directory is in `directory`.
    pub fn state(directory: &Path) -> PathBuf {
        directory.join("relay-state")
    }

    /// Starts such a command, with a cleartext listener on any free port unless it has one, and open to everybody
    /// unless it says otherwise. Its log is `logs/name.log`.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_as(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        if !command.get_args().any(|argument| argument == "--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        // In the lab others can reach it, so it wants to be told.
        for auth in ["--agent-auth", "--client-auth"] {
            if !command.get_args().any(|argument| argument == auth) {
                command.args([auth, "none"]);
            }
        }
        let mut process = Process::start(name, command, logs)?;
        let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
        let http =
            process.wait_for("its cleartext URL", |line| line.strip_prefix("http:  ").map(str::to_owned))?;
        Ok(Self { process, url, http })
    }

    /// The value of a metric, over all its labels.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn metric(&self, name: &str) -> Result<u64> {
        metric(self.http.trim_start_matches("ws://"), name)
    }
}

/// The value of a metric of the relay that shows its metrics there, over all its labels.
pub(crate) fn metric(authority: &str, name: &str) -> Result<u64> {
    let url = format!("http://{authority}/metrics");
    let text = process::run(Command::new("curl").args(["-fsS", &url]), b"")?.success()?.text();
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value =
            rest.strip_prefix(' ').or_else(|| rest.strip_prefix('{')?.split_once("} ").map(|(_, v)| v))?;
        value.parse::<u64>().ok()
    });
    Ok(values.sum())
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
        Self::start_as("agent", Self::command(job, relay)?.args(arguments), logs)
    }

    /// The command that starts an agent in `job`, for more arguments and variables.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command(job: &Path, relay: &str) -> Result<Command> {
        let mut command = Command::new(programs::own("converge-agent")?);
        clean(command.current_dir(job).args(["--relay", relay]));
        // An agent that is killed leaves its directory; there it goes with the rest.
        command.env("TMPDIR", job.parent().unwrap_or(job));
        // Tests come and go; an agent that nobody holds ends with the first one.
        command.env("CONVERGE_HOLD", "true");
        Ok(command)
    }

    /// Such a command, started by a line of sh as `"$0" "$@"`.
    pub fn by_shell(line: &str, agent: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).arg(agent.get_program()).args(agent.get_args());
        if let Some(job) = agent.get_current_dir() {
            shell.current_dir(job);
        }
        for (name, value) in agent.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    /// Starts such a command, and waits until the agent can be reached. Its log is
    /// `logs/name.log`.
    ///
    /// # Errors
    /// When it does not say how it can be reached.
    pub fn start_as(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let mut process = Process::start(name, command, logs)?;
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

    /// The fingerprint in the address.
    pub fn fingerprint(&self) -> &str {
        let (before, _pin) = self.address.split_once('#').unwrap_or((&self.address, ""));
        before.rsplit_once('.').map_or("", |(_, fingerprint)| fingerprint)
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
        // As for agents.
        clean(&mut command).env("TMPDIR", self.path());
        Ok(command)
    }

    /// `converge ssh`, `converge sftp` or `converge scp` with the person's key and nothing of this machine's ssh
    /// configuration; the program's own arguments follow.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh(&self, program: &str) -> Result<Command> {
        self.openssh_to(program, &self.agent.address)
    }

    /// The same, to another address.
    ///
    /// # Errors
    /// When `converge` has not been built.
    pub fn openssh_to(&self, program: &str, address: &str) -> Result<Command> {
        let mut command = self.converge()?;
        command.args([program, address]).args(self.ssh_options());
        Ok(command)
    }

    /// A new directory for a further job, into which the person may log in.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new_job(&self, name: &str) -> Result<PathBuf> {
        let job = self.path().join(name);
        fs::create_dir(&job)?;
        fs::copy(self.key().with_extension("pub"), job.join(".authorized_keys"))?;
        Ok(job)
    }

    /// The command that starts a further agent on this relay, on this setup's carrier.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn agent_command(&self, job: &Path) -> Result<Command> {
        let mut command = Agent::command(job, &self.relay.url)?;
        command.args(["--transport", &self.carrier.to_string()]);
        Ok(command)
    }

    /// The agent's program, for what is not the start of an agent.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn agent_program(&self) -> Result<Command> {
        let mut command = Command::new(programs::own("converge-agent")?);
        clean(&mut command);
        Ok(command)
    }

    /// An `ssh_config` file with the block of `converge config` in it, and the person's key. Returns its path.
    ///
    /// # Errors
    /// When `converge config` fails.
    pub fn ssh_config(&self) -> Result<PathBuf> {
        let scheme = match self.carrier {
            Carrier::Quic => "quic://",
            Carrier::WebSocket => "wss://",
        };
        let relay = self.relay.url.replacen("https://", scheme, 1);
        let block = process::run(self.converge()?.args(["--relay", &relay, "config"]), b"")?.success()?;
        let key = self.key();
        let person = format!(
            "Host *\n    IdentityFile {}\n    IdentitiesOnly yes\n    BatchMode yes\n",
            key.display()
        );
        let file = self.path().join("ssh_config");
        fs::write(&file, block.text() + &person)?;
        Ok(file)
    }

    /// The agent's name in that file: `ID.FINGERPRINT.converge`.
    pub fn host(&self) -> String {
        format!("{}.{}.converge", self.agent.id, self.agent.fingerprint())
    }

    /// What keeps OpenSSH to this setup's key and away from this machine's configuration.
    pub fn ssh_options(&self) -> Vec<String> {
        ssh_options(&self.key())
    }
}

impl Drop for Setup {
    /// In a test that fails, everything that any process has logged is shown.
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.path());
        }
    }
}

/// What keeps OpenSSH to this key and away from this machine's configuration.
pub fn ssh_options(key: &Path) -> Vec<String> {
    let key = key.display().to_string();
    ["-F", "none", "-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"].map(str::to_owned).to_vec()
}

/// Prints every log in a directory.
pub fn show_logs(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        if is_log && !text.is_empty() {
            println!("--- {} logged:\n{text}", path.file_stem().unwrap_or_default().display());
        }
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
        let is_setting = ["SSH_AUTH_SOCK", "RUNNER_TEMP", "AGENT_TEMPDIRECTORY"].contains(&&*name_text)
            || name_text.starts_with("ACTIONS_ID_TOKEN_");
        if is_setting || name_text.starts_with("CONVERGE_") {
            command.env_remove(&name);
        }
    }
    command
}

//! OpenSSH's own server, with nothing between it and OpenSSH.

use crate::{
    Process,
    loopback::free_port,
    process::{eventually, run},
    programs,
    setup::{clean, make_key},
};
use anyhow::{Context, Result};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A running sshd, and how it is to be spoken to.
#[derive(Debug)]
pub(super) struct Direct {
    _sshd: Process,
    directory: PathBuf,
    address: SocketAddr,
    options: Vec<String>,
}

impl Direct {
    /// Starts one with its files in `directory`, and waits until it answers. `options` are for `ssh`.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn start(directory: &Path, options: &[&str]) -> Result<Self> {
        fs::create_dir(directory)?;
        make_key(&directory.join("key"))?;
        make_key(&directory.join("host_key"))?;
        let address = free_port()?;
        let quoted = |file: &str| format!("\"{}\"", directory.join(file).display());
        let config = format!(
            "Port {}\nListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nSubsystem sftp internal-sftp\nMaxStartups 200\nSetEnv HOME={}\n",
            address.port(),
            address.ip(),
            quoted("host_key"),
            quoted("key.pub"),
            // Debian's bash reads ~/.bashrc for sshd's commands too; what is in it is not to be measured.
            quoted("."),
        );
        fs::write(directory.join("sshd_config"), config)?;
        if rustix::process::geteuid().is_root() {
            // Where sshd locks itself into before a login; Debian makes it when the service starts.
            fs::create_dir_all("/run/sshd").context("cannot make sshd's /run/sshd")?;
        }
        let mut sshd = Command::new(programs::installed("sshd")?);
        sshd.arg("-D").arg("-f").arg(directory.join("sshd_config"));
        let sshd = Process::start("sshd", &mut sshd, directory)?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let direct = Self { _sshd: sshd, directory: directory.to_owned(), address, options };
        // It says nothing when it is ready, so it is asked.
        eventually("sshd's first session", || {
            let output = run(direct.command("ssh").ok()?.arg(direct.host()).arg("true"), b"").ok()?;
            output.status.success().then_some(())
        })?;
        Ok(direct)
    }

    /// `ssh` or `sftp` with what it takes to come in; the host follows.
    ///
    /// # Errors
    /// When it is not installed.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(programs::installed(program)?);
        command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]);
        command.arg(self.directory.join("key")).args(["-o", &format!("Port={}", self.address.port())]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(&self.options);
        clean(&mut command);
        Ok(command)
    }

    /// Where it is.
    pub(super) fn host(&self) -> String {
        self.address.ip().to_string()
    }
}

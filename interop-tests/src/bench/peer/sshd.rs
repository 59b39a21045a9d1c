//! OpenSSH's own server in the job, and OpenSSH at the laptop.

use super::Peer;
use crate::{
    Lab, Sshd, programs,
    setup::{clean, ssh_options},
};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// Nobody else has it in the lab.
const PORT: u16 = 2222;

/// An sshd that the laptop reaches directly.
pub struct DirectSshd {
    sshd: Sshd,
    key: PathBuf,
    directory: PathBuf,
}

impl DirectSshd {
    /// Starts it in the job.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (key, address) = (lab.key(), (lab.job().address(), PORT).into());
        let sshd = lab.job().enter(|| Sshd::start_at(lab.path(), &key.with_extension("pub"), address))?;
        Ok(Self { sshd, key, directory: lab.path().to_owned() })
    }
}

impl Peer for DirectSshd {
    fn ssh(&self) -> Result<Command> {
        let mut ssh = Command::new(programs::installed("ssh")?);
        clean(ssh.current_dir(&self.directory)).args(ssh_options(&self.key)).args([
            "-p",
            &self.sshd.address.port().to_string(),
            "-o",
        ]);
        ssh.arg(format!("UserKnownHostsFile={}", self.sshd.known_hosts.display()));
        ssh.arg(self.sshd.address.ip().to_string());
        Ok(ssh)
    }

    fn uses_udp(&self) -> bool {
        false
    }

    fn restart_middle(&mut self) -> Result<bool> {
        Ok(false)
    }
}

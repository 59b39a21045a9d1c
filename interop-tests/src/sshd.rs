//! OpenSSH's own server, on this machine.

use crate::{Process, loopback::free_port, process::eventually, programs, setup::make_key};
use anyhow::{Context, Result};
use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A running sshd.
#[derive(Debug)]
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    /// A `known_hosts` file with its key.
    pub known_hosts: PathBuf,
    _process: Process,
}

impl Sshd {
    /// Starts one that lets in who has the key in this file, and waits until it answers. Its files and its log are
    /// in `directory`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(directory: &Path, public_key: &Path) -> Result<Self> {
        Self::start_at(directory, public_key, free_port()?)
    }

    /// The same, where nobody else listens.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_at(directory: &Path, public_key: &Path, address: SocketAddr) -> Result<Self> {
        let host_key = directory.join("sshd_host_key");
        make_key(&host_key)?;
        let config = format!(
            "Port {}\nListenAddress {}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nStrictModes no\nUsePAM no\n\
             PidFile none\nSubsystem sftp internal-sftp\n",
            address.port(),
            address.ip(),
            host_key.display(),
            public_key.display()
        );
        let file = directory.join("sshd_config");
        fs::write(&file, config)?;
        if rustix::process::geteuid().is_root() {
            // Where sshd locks itself into before a login; Debian makes it when the service starts.
            fs::create_dir_all("/run/sshd").context("cannot make sshd's /run/sshd")?;
        }
        let mut command = Command::new(programs::installed("sshd")?);
        let process = Process::start("sshd", command.args(["-D", "-e", "-f"]).arg(file), directory)?;
        eventually("sshd's first line", || greets(address).then_some(()))?;
        let public = fs::read_to_string(host_key.with_extension("pub"))?;
        let known_hosts = directory.join("sshd_known_hosts");
        fs::write(&known_hosts, format!("[{}]:{} {public}", address.ip(), address.port()))?;
        Ok(Self { address, known_hosts, _process: process })
    }
}

fn greets(address: SocketAddr) -> bool {
    let mut first = [0; 4];
    TcpStream::connect(address).is_ok_and(|mut stream| {
        let limited = stream.set_read_timeout(Some(Duration::from_secs(1)));
        limited.is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"SSH-"
    })
}

//! A real etcd.

use super::Place;
use crate::{
    process::{Process, eventually},
    programs,
};
use anyhow::{Result, ensure};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

/// Where it listens at a place of its own: for clients, and for other members.
const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    place: Place,
    /// Where clients reach it.
    pub address: SocketAddr,
    peers: SocketAddr,
    directory: PathBuf,
}

impl Etcd {
    /// Starts one with its data in `directory/etcd`, on any free port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_at(&Place::Loopback, directory)
    }

    /// The same at another place.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_at(place: &Place, directory: &Path) -> Result<Self> {
        let (address, peers) = (place.address(PORT)?, place.address(PEER_PORT)?);
        let (place, directory) = (place.clone(), directory.to_owned());
        let mut etcd = Self { process: None, place, address, peers, directory };
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Starts it after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(programs::installed("etcd")?);
        let (clients, peers) = (format!("http://{}", self.address), format!("http://{}", self.peers));
        command.arg("--data-dir").arg(self.data()).args(["--name", "one", "--logger", "zap"]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("one={peers}")]);
        self.process = Some(self.place.enter(|| Process::start("etcd", &mut command, &self.directory))?);
        self.place.enter(|| eventually("etcd listens", || TcpStream::connect(self.address).ok()))?;
        Ok(())
    }

    /// Ends it at once, as when its machine dies.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Loses all it has. It must not run.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub fn lose_data(&self) -> Result<()> {
        ensure!(self.process.is_none(), "etcd runs");
        Ok(fs::remove_dir_all(self.data())?)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("etcd")
    }
}

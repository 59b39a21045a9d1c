//! The lab: several hosts on this machine, each in a network of its own, with an internet between them that can be made
//! as bad as the real one.
//!
//! ```text
//!   relay 198.51.100.10 ──┐                  ┌── job 192.0.2.10
//!                         ├── the internet ──┤
//!                         │   (this process) └── laptop 203.0.113.10, or 192.168.7.10 behind a router or proxy
//! ```
//!
//! A scenario may have more hosts ([`Lab::host`]); [`ClusterLab`] has several relays on hosts of their own.
//!
//! Hosts are network namespaces. Packets between them go through this process, where each host's [`Uplink`] delays,
//! loses, reorders, slows, refuses or drops them, as the scenario says and while it runs. IPv4 only. Nothing outside
//! the lab can be reached from it, and nothing of it remains: the next lab also removes what a killed test has left.
//!
//! It needs root, for network namespaces, and says so when it is not. Chances follow from a seed, which is printed;
//! `CONVERGE_LAB_SEED` repeats it.

mod cluster;
mod conditions;
mod host;
mod internet;
mod namespace;
mod nat;
mod packet;
mod person;
mod proxy;
mod uplink;

pub use cluster::ClusterLab;
pub use host::{Access, Host};
pub(crate) use namespace::{Namespace, remove_stale};
pub use nat::Nat;
pub use proxy::HttpProxy;
pub use uplink::{Traffic, Uplink};

use crate::setup::{Agent, Relay, make_key, show_logs};
use anyhow::{Context, Result, ensure};
use internet::Internet;
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    env,
    ffi::OsStr,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

/// The networks that RFC 5737 keeps free for examples.
const RELAY_NETWORK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const JOB_NETWORK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
const LAPTOP_NETWORK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);
/// Where the relay listens.
const RELAY_PORT: u16 = 4433;
/// What says which chances to repeat.
const SEED_VARIABLE: &str = "CONVERGE_LAB_SEED";

/// What tells the labs of one process apart, which run side by side.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// Three hosts, the internet between them, and a person with a key at the laptop.
#[derive(Debug)]
pub struct Lab {
    relay: Host,
    job: Host,
    laptop: Host,
    /// Those that a scenario has beside them.
    more: Mutex<Vec<Arc<Host>>>,
    /// After the hosts, whose processes are ended first.
    internet: Internet,
    number: u32,
    seed: u64,
    directory: Option<TempDir>,
}

impl Lab {
    /// A lab whose job and laptop have addresses of their own.
    ///
    /// # Errors
    /// When this machine cannot have a lab, with what it lacks.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_access(name, Access::Direct, Access::Direct)
    }

    /// A lab with these ways to the internet.
    ///
    /// # Errors
    /// When this machine cannot have a lab, with what it lacks.
    pub fn with_access(name: &str, job: Access, laptop: Access) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root() && Path::new("/dev/net/tun").exists(),
            "the lab needs root, network namespaces and /dev/net/tun; run the tests as root, in a container with \
             --cap-add NET_ADMIN,SYS_ADMIN --device /dev/net/tun"
        );
        remove_stale();
        let seed = match env::var(SEED_VARIABLE) {
            Ok(seed) => seed.parse().with_context(|| format!("{SEED_VARIABLE} is a number"))?,
            Err(_) => rand::random(),
        };
        let directory = tempfile::Builder::new().prefix(&format!("converge-lab-{name}-")).tempdir()?;
        eprintln!("lab {name}: {SEED_VARIABLE}={seed} repeats its chances");
        make_key(&directory.path().join("key"))?;
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let internet = Internet::new(seed)?;
        let host = |label: &str, network, access| {
            Host::new(&internet, &format!("{number}-{label}"), network, access, directory.path())
        };
        let relay = host("relay", RELAY_NETWORK, Access::Direct)?;
        let job = host("job", JOB_NETWORK, job)?;
        let laptop = host("laptop", LAPTOP_NETWORK, laptop)?;
        let more = Mutex::default();
        let lab = Self { relay, job, laptop, more, internet, number, seed, directory: Some(directory) };
        lab.new_job("job")?;
        Ok(lab)
    }

    /// A further host, with an address of its own in this network, which nobody else may have.
    ///
    /// # Errors
    /// When the system does not want to.
    pub fn host(&self, label: &str, network: Ipv4Addr) -> Result<Arc<Host>> {
        let label = format!("{}-{label}", self.number);
        let host = Arc::new(Host::new(&self.internet, &label, network, Access::Direct, self.path())?);
        // It lives as long as the others, and before the internet ends.
        self.more.lock().unwrap_or_else(PoisonError::into_inner).push(host.clone());
        Ok(host)
    }

    /// Where the relay runs.
    pub fn relay(&self) -> &Host {
        &self.relay
    }

    /// Where the agent runs.
    pub fn job(&self) -> &Host {
        &self.job
    }

    /// Where the person sits.
    pub fn laptop(&self) -> &Host {
        &self.laptop
    }

    /// The directory of it all: logs, keys, files to copy, and the working directory of the person.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// The directory in which the agent runs.
    pub fn job_directory(&self) -> PathBuf {
        self.path().join("job")
    }

    /// Makes a directory for an agent, into which the person may log in.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new_job(&self, name: &str) -> Result<PathBuf> {
        let job = self.path().join(name);
        fs::create_dir(&job)?;
        fs::copy(self.key().with_extension("pub"), job.join(".authorized_keys"))?;
        Ok(job)
    }

    /// The person's private key.
    pub fn key(&self) -> PathBuf {
        self.path().join("key")
    }

    /// Chances for the scenario's own use, from the lab's seed.
    pub fn random(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.seed)
    }

    /// Starts a relay on its host; again, when the last one is dead, with the same state and port.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start_relay(&self) -> Result<Relay> {
        let listen = format!("{}:{RELAY_PORT}", self.relay.address());
        self.relay.enter(|| Relay::start_on(self.path(), &listen))
    }

    /// Starts an agent in the job.
    ///
    /// # Errors
    /// When it does not say how it can be reached.
    pub fn start_agent(&self, relay: &Relay) -> Result<Agent> {
        self.start_agent_with(relay, &[] as &[&str], &[])
    }

    /// The same, with arguments and variables.
    ///
    /// # Errors
    /// When it does not say how it can be reached.
    pub fn start_agent_with(
        &self,
        relay: &Relay,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Result<Agent> {
        let mut command = Agent::command(&self.job_directory(), &relay.url)?;
        command.args(arguments).envs(variables.iter().copied());
        self.job.enter(|| Agent::start_as("agent", &mut command, self.path()))
    }
}

impl Drop for Lab {
    /// After a test that fails, everything that any process has logged is shown, and stays.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        show_logs(self.path());
        if let Some(directory) = self.directory.take() {
            println!("--- all of it stays in {}", directory.keep().display());
        }
    }
}

//! A way that has been set up, and what it does.

use super::{Figure, Measure, Way, Work, direct::Direct};
use crate::{
    Agent, Carrier, Process, Relay, Setup,
    bench::table::median,
    cluster::{Cluster, through},
    lab::{Namespace, remove_stale},
};
use anyhow::{Result, ensure};
use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// AES-GCM on both sides of a ratio; `converge ssh` asks for the same.
const CIPHERS: &str = "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com";

/// Bytes of a packet, with all headers, on most paths of the internet.
const SMALL_MTU: u32 = 1500;

/// A way into a job, with all its programs running.
#[derive(Debug)]
pub struct Route {
    /// Which one.
    pub way: Way,
    end: End,
    /// Behind the programs, which are in it.
    network: Option<Arc<Namespace>>,
}

#[derive(Debug)]
enum End {
    Sshd(Box<Direct>),
    Agent(Box<Setup>),
    Across(Box<Across>),
}

/// Two relays, and an agent at the first of them.
#[derive(Debug)]
struct Across {
    setup: Setup,
    cluster: Cluster,
    agent: Agent,
    /// Through the second relay.
    address: String,
}

impl Route {
    /// Sets up these ways, with files in `directory`.
    ///
    /// # Errors
    /// When a program does not start.
    pub fn start(ways: &[Way], directory: &Path) -> Result<Vec<Self>> {
        let small_packets = if ways.iter().any(|way| way.has_small_packets()) {
            remove_stale();
            let network = Namespace::new("bench")?;
            network.configure(&format!("link set lo mtu {SMALL_MTU}"))?;
            Some(Arc::new(network))
        } else {
            None
        };
        ways.iter()
            .map(|&way| {
                let network = small_packets.clone().filter(|_| way.has_small_packets());
                let end = enter(network.as_deref(), || End::start(way, directory))?;
                Ok(Self { way, end, network })
            })
            .collect()
    }

    /// One figure.
    ///
    /// # Errors
    /// When a program fails.
    pub fn measure(&self, measure: Measure, work: &Work) -> Result<Figure> {
        if !measure.is_transfer() {
            let times = (0..work.sessions).map(|_| Ok(self.time(self.ssh("true")?, None)?.as_secs_f64()));
            let times: Vec<_> = times.collect::<Result<_>>()?;
            return Ok(Figure { value: median(&times) * 1000.0, relay_cpu: None });
        }
        let (file, copied) = (work.file.display(), work.file.with_extension("copied"));
        let before = self.relay_cpu_time()?;
        let time = match measure {
            Measure::Get => self.sftp(&format!("get {file} {}\n", copied.display()))?,
            Measure::Put => self.sftp(&format!("put {file} {}\n", copied.display()))?,
            Measure::Cat | Measure::True => self.time(self.ssh(&format!("cat {file}"))?, None)?,
        };
        let spent = self.relay_cpu_time()?.zip(before).map(|(after, before)| after.saturating_sub(before));
        let mib = f64::from(work.mib);
        Ok(Figure {
            value: mib / time.as_secs_f64(),
            relay_cpu: spent.map(|spent| spent.as_secs_f64() * 1024.0 / mib),
        })
    }

    fn ssh(&self, line: &str) -> Result<Command> {
        let mut command = self.end.command("ssh", &["-q"])?;
        command.arg(line);
        Ok(command)
    }

    fn sftp(&self, batch: &str) -> Result<Duration> {
        self.time(self.end.command("sftp", &["-q", "-b", "-"])?, Some(batch))
    }

    /// How long a command takes from its start to its end. What it prints goes nowhere.
    fn time(&self, mut command: Command, input: Option<&str>) -> Result<Duration> {
        let stdin = match input {
            Some(text) => {
                let file = tempfile::NamedTempFile::new()?;
                fs::write(file.path(), text)?;
                Stdio::from(File::open(file.path())?)
            }
            None => Stdio::null(),
        };
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        let (status, time) = enter(self.network.as_deref(), || {
            let begun = Instant::now();
            let status = command.status()?;
            Ok((status, begun.elapsed()))
        })?;
        ensure!(status.success(), "{}: {command:?} ended with {status}", self.way.name());
        Ok(time)
    }

    /// What all relays of this way have spent so far.
    fn relay_cpu_time(&self) -> Result<Option<Duration>> {
        match &self.end {
            End::Sshd(_) => Ok(None),
            End::Agent(setup) => Ok(Some(setup.relay.process.cpu_time()?)),
            End::Across(across) => {
                let relays = [1, 2].map(|number| across.cluster.relay(number));
                relays.into_iter().map(|relay: &Relay| relay.process.cpu_time()).sum::<Result<_>>().map(Some)
            }
        }
    }

    /// The relay and the agent of this way. Of two relays, it is the one with the agent.
    pub fn programs(&self) -> Option<(&Process, &Process)> {
        match &self.end {
            End::Sshd(_) => None,
            End::Agent(setup) => Some((&setup.relay.process, &setup.agent.process)),
            End::Across(across) => Some((&across.cluster.relay(1).process, &across.agent.process)),
        }
    }
}

impl End {
    fn start(way: Way, directory: &Path) -> Result<Self> {
        let direct =
            |options: &[&str]| Ok(Self::Sshd(Box::new(Direct::start(&directory.join(way.name()), options)?)));
        let agent = |carrier| Ok(Self::Agent(Box::new(Setup::start(carrier)?)));
        match way {
            Way::FirstCipher => direct(&[]),
            Way::Direct | Way::DirectSmallPackets => direct(&["-o", CIPHERS]),
            Way::OneRelay(carrier) => agent(carrier),
            Way::QuicSmallPackets => agent(Carrier::Quic),
            Way::TwoRelays(carrier) => Ok(Self::Across(Box::new(Across::start(carrier)?))),
        }
    }

    /// `ssh` or `sftp` with these options, up to and with the host.
    fn command(&self, program: &str, options: &[&str]) -> Result<Command> {
        let mut command = match self {
            Self::Sshd(direct) => direct.command(program)?,
            Self::Agent(setup) => setup.openssh(program)?,
            Self::Across(across) => across.setup.openssh_to(program, &across.address)?,
        };
        command.args(options);
        if let Self::Sshd(direct) = self {
            command.arg(direct.host());
        }
        Ok(command)
    }
}

impl Across {
    fn start(carrier: Carrier) -> Result<Self> {
        let setup = Setup::start(carrier)?;
        let cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
        let arguments = ["--transport", &carrier.to_string(), "--id", "across"];
        let agent = Agent::start(&setup.new_job("across")?, setup.path(), cluster.url(1), arguments)?;
        let address = through(&agent, cluster.url(2));
        Ok(Self { setup, cluster, agent, address })
    }
}

/// Does `work` in this network, or in this machine's own.
fn enter<T: Send>(network: Option<&Namespace>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match network {
        Some(network) => network.enter(work),
        None => work(),
    }
}

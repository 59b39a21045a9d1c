//! Several relays that act as one, with a real etcd, and with nginx in front of them.

mod etcd;
mod place;

pub use etcd::Etcd;
pub use place::Place;

use crate::{
    loopback::free_port,
    process::{Process, eventually, run},
    programs,
    setup::{Agent, Relay, clean, metric},
};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

/// Where they listen at a place of their own.
const RELAY_PORT: u16 = 4433;
const CLUSTER_PORT: u16 = 4434;
/// Where a relay that others can reach gives its metrics to this machine alone.
const METRICS: &str = "127.0.0.1:9090";

/// Relays that act as one. Their numbers are 1, 2, …
#[derive(Debug)]
pub struct Cluster {
    /// By number, from 1; empty places are those of relays that do not run.
    relays: Vec<Option<Relay>>,
    places: Vec<Place>,
    /// Where each listens, so that the next one of that number does too.
    addresses: Vec<String>,
    arguments: Vec<String>,
    /// What they share.
    pub etcd: Etcd,
    directory: PathBuf,
}

impl Cluster {
    /// Starts so many relays on loopback, each with these arguments. Everything is in `directory`.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start<A: AsRef<str>>(
        directory: &Path,
        relays: usize,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let etcd = Etcd::start(directory)?;
        Self::start_at(directory, etcd, &vec![Place::Loopback; relays], arguments)
    }

    /// The same with this etcd, and each relay at another place.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start_at<A: AsRef<str>>(
        directory: &Path,
        etcd: Etcd,
        relays: &[Place],
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let mut cluster = Self {
            relays: Vec::new(),
            places: relays.to_vec(),
            addresses: Vec::new(),
            arguments,
            etcd,
            directory: directory.to_owned(),
        };
        cluster.make(&["init", "--dir", "home"])?;
        for (number, place) in (1..).zip(relays) {
            let (number_text, out) = (number.to_string(), format!("relay-{number}"));
            cluster.make(&["join", "--dir", "home", "--number", &number_text, "--out", &out])?;
            cluster.relays.push(None);
            cluster.addresses.push(place.listen(RELAY_PORT));
            cluster.start_relay(number)?;
        }
        cluster.wait_until_they_know_each_other()?;
        Ok(cluster)
    }

    fn make(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(programs::own("converge-relay")?);
        clean(command.current_dir(&self.directory).arg("cluster").args(arguments));
        run(&mut command, b"")?.success()?;
        Ok(())
    }

    /// Starts a relay that does not run; one that has run before is where it was.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_relay(&mut self, number: usize) -> Result<()> {
        let name = format!("relay-{number}");
        let directory = self.directory_of(number);
        let mut command = Relay::command(&directory, &self.addresses[number - 1])?;
        command.arg("--cluster-dir").arg(self.directory.join(&name));
        let place = &self.places[number - 1];
        command.args(["--cluster-listen", &place.listen(CLUSTER_PORT)]);
        command.args(self.etcd.arguments()).args(&self.arguments);
        if place.is_host() {
            command.args(["--metrics", METRICS]);
        }
        let relay = place.enter(|| Relay::start_as(&name, &mut command, &self.directory))?;
        authority(&relay.url).clone_into(&mut self.addresses[number - 1]);
        self.relays[number - 1] = Some(relay);
        Ok(())
    }

    fn directory_of(&self, number: usize) -> PathBuf {
        self.directory.join(format!("state-{number}"))
    }

    /// The relay of this number.
    ///
    /// # Panics
    /// When it does not run.
    pub fn relay(&self, number: usize) -> &Relay {
        self.relays[number - 1].as_ref().unwrap_or_else(|| panic!("relay {number} does not run"))
    }

    /// Its URL.
    pub fn url(&self, number: usize) -> &str {
        &self.relay(number).url
    }

    /// The URLs of all that run, as one list.
    pub fn urls(&self) -> String {
        self.relays.iter().flatten().map(|relay| relay.url.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Ends a relay at once.
    ///
    /// # Errors
    /// When it has gone already.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let mut relay = self.relays[number - 1].take().context("it does not run")?;
        relay.process.signal(Signal::KILL)?;
        relay.process.wait()?;
        Ok(())
    }

    /// Lets a relay drain, and waits until it has ended.
    ///
    /// # Errors
    /// When it ends with an error, or not at all.
    pub fn drain(&mut self, number: usize) -> Result<()> {
        let mut relay = self.relays[number - 1].take().context("it does not run")?;
        let mut command = Command::new(programs::own("converge-relay")?);
        clean(command.args(["drain", "--state-dir"]).arg(Relay::state(&self.directory_of(number))));
        let told = run(&mut command, b"")?.success()?.text();
        ensure!(told.ends_with("stopped; every session had ended\n"), "relay {number} said\n{told}");
        let status = relay.process.wait()?;
        ensure!(status.success(), "relay {number} ended with {status}:\n{}", relay.process.log());
        Ok(())
    }

    /// Waits until every relay that runs knows that the others do.
    ///
    /// # Errors
    /// When they do not find each other.
    pub fn wait_until_they_know_each_other(&self) -> Result<()> {
        let running: Vec<_> = self.running().collect();
        running.iter().try_for_each(|number| self.wait_until_it_knows(*number, running.len()))
    }

    /// Waits until a relay knows that so many run, with itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_it_knows(&self, number: usize, relays: usize) -> Result<()> {
        let mut known = None;
        eventually(&format!("relay {number} to know {relays} relays"), || {
            let now = known.insert(self.metric_of(number, "converge_cluster_relays"));
            now.as_ref().is_ok_and(|now| *now == relays as u64).then_some(())
        })
        .with_context(|| format!("it knows {known:?}"))
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (1..).zip(&self.relays).filter_map(|(number, relay)| relay.is_some().then_some(number))
    }

    /// The sum of a metric, over all its labels and all relays that run.
    ///
    /// # Errors
    /// When one of them does not tell.
    pub fn metric(&self, name: &str) -> Result<u64> {
        self.running().map(|number| self.metric_of(number, name)).sum()
    }

    /// The same of one relay.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn metric_of(&self, number: usize, name: &str) -> Result<u64> {
        let (place, relay) = (&self.places[number - 1], self.relay(number));
        if place.is_host() { place.enter(|| metric(METRICS, name)) } else { relay.metric(name) }
    }

    /// A balancer in front of the relays that knows nothing of QUIC: nginx, by a hash of the peer's address and port, on UDP
    /// and TCP. Returns it and its URL. On loopback only.
    ///
    /// # Errors
    /// When it does not start.
    pub fn balancer(&self) -> Result<(Process, String)> {
        let (front, directory) = (free_port()?, self.directory.join("balancer"));
        fs::create_dir_all(&directory)?;
        let servers = self.addresses.iter().map(|address| format!("        server {address};\n"));
        let servers: String = servers.collect();
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let shown = directory.display();
        let config = directory.join("nginx.conf");
        fs::write(
            &config,
            format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n{user}daemon off;\nmaster_process off;\n\
                 pid {shown}/nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 1024; }}\nstream {{\n\
                 \x20   upstream relays {{\n        hash $remote_addr$remote_port consistent;\n{servers}    }}\n\
                 \x20   server {{ listen {front} udp; proxy_pass relays; proxy_timeout 10m; }}\n\
                 \x20   server {{ listen {front}; proxy_pass relays; proxy_timeout 10m; proxy_connect_timeout 1s; }}\n}}\n"
            ),
        )?;
        let mut nginx = Command::new(programs::installed("nginx")?);
        let nginx = Process::start("balancer", nginx.arg("-c").arg(&config), &self.directory)?;
        eventually("nginx listens", || TcpStream::connect(front).ok())?;
        let pin = self.relays.iter().flatten().find_map(|relay| relay.url.split_once('#'));
        Ok((nginx, format!("https://{front}#{}", pin.context("no relay runs")?.1)))
    }
}

/// The address of an agent as it is at another relay.
pub fn through(agent: &Agent, relay: &str) -> String {
    let (relay, pin) = relay.split_once('#').unwrap_or((relay, ""));
    format!("{relay}/client/{}.{}#{pin}", agent.id, agent.fingerprint())
}

/// `HOST:PORT` of a relay's URL.
pub fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    rest.split_once('#').map_or(rest, |(authority, _)| authority)
}

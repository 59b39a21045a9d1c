//! What is measured of each way into the job. All of the network is at the laptop's uplink, so that every way has the same.

use super::{bulk::Bulk, peer::Peer, typist::Typist};
use crate::{Agent, Lab, lab::Uplink, process::run};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

/// A good line, and a long one: 200 Mbit/s, a round trip of 50 ms, and a queue for as much as is under way then.
const ROUND_TRIP: Duration = Duration::from_millis(50);
const BITS_PER_SECOND: u32 = 200_000_000;
const QUEUE_BYTES: u32 = 1_250_000;
/// A round trip in which all else does not count.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(200);
/// How long a transfer goes on before it is looked at: until its start is over. That is part of what is measured.
const RAMP: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(10);

/// How much is done for one figure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Logins of which the median counts.
    pub logins: usize,
    /// For how long a transfer is watched.
    pub watch: Duration,
    /// Keys that are typed.
    pub keys: usize,
}

/// One figure.
type Run = fn(&Lab, &mut dyn Peer, Effort) -> Result<Option<f64>>;

/// What is measured.
pub struct Measure {
    /// For the table.
    pub name: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// Whether a larger figure is a better one.
    pub more_is_better: bool,
    /// On QUIC, and on WebSocket.
    pub goals: [Option<f64>; 2],
    run: Run,
}

impl Measure {
    /// Measures once; nothing where the way has no such thing, or did not survive it. The network is good afterwards.
    ///
    /// # Errors
    /// When the way does not work at all.
    pub fn run(&self, lab: &Lab, peer: &mut dyn Peer, effort: Effort) -> Result<Option<f64>> {
        let figure = (self.run)(lab, peer, effort);
        lab.laptop().uplink().clear();
        figure.with_context(|| self.name)
    }
}

const fn time(name: &'static str, unit: &'static str, goals: [Option<f64>; 2], run: Run) -> Measure {
    Measure { name, unit, more_is_better: false, goals, run }
}

const fn rate(name: &'static str, goals: [Option<f64>; 2], run: Run) -> Measure {
    Measure { name, unit: "Mbit/s", more_is_better: true, goals, run }
}

/// All of it, in the order of the table.
pub const ALL: [Measure; 16] = [
    time("ssh true", "round trips", [Some(8.0), Some(10.0)], login),
    time(
        "ssh true where UDP is dropped, more than where it passes",
        "s",
        [Some(0.3), None],
        login_without_udp,
    ),
    rate("download, no loss", [Some(184.0), None], |lab, peer, effort| downloads(lab, peer, effort, 1, 0.0)),
    rate("download, 0.1 % loss", [Some(170.0), None], |lab, peer, effort| {
        downloads(lab, peer, effort, 1, 0.001)
    }),
    rate("download, 1 % loss", [Some(150.0), None], |lab, peer, effort| {
        downloads(lab, peer, effort, 1, 0.01)
    }),
    rate("two downloads at once, 0.1 % loss", [None, None], |lab, peer, effort| {
        downloads(lab, peer, effort, 2, 0.001)
    }),
    rate("two downloads at once, 1 % loss", [None, None], |lab, peer, effort| {
        downloads(lab, peer, effort, 2, 0.01)
    }),
    rate("upload, no loss", [None, None], |lab, peer, effort| upload(lab, peer, effort, 0.0)),
    rate("upload, 1 % loss", [None, None], |lab, peer, effort| upload(lab, peer, effort, 0.01)),
    time("key beside a download, 99th of 100", "ms", [Some(60.0), None], |lab, peer, effort| {
        keys_beside_a_download(lab, peer, effort, 0.0)
    }),
    time("the same, 3 % loss", "ms", [Some(105.0), None], |lab, peer, effort| {
        keys_beside_a_download(lab, peer, effort, 0.03)
    }),
    time("key, jitter of 20 ms, 99th of 100", "ms", [None, None], keys_with_jitter),
    time("network away for 10 s: key after it is back", "s", [Some(0.1), None], outage),
    time("another address: silence", "s", [Some(0.15), None], another_address),
    time("relay killed: key after it is back", "s", [Some(0.3), None], restart),
    time("UDP dies: silence", "s", [Some(3.0), None], udp_dies),
];

/// Gives all hosts the congestion control for TCP that most machines have, where this one allows it. Returns which they have.
///
/// # Errors
/// When the system does not tell.
pub fn use_cubic(lab: &Lab) -> Result<String> {
    // Of the network namespace of whoever asks.
    let setting = "/proc/sys/net/ipv4/tcp_congestion_control";
    let mut used = String::new();
    for host in [lab.relay(), lab.job(), lab.laptop()] {
        used = host.enter(|| {
            // Only what `tcp_allowed_congestion_control` of the machine has can be chosen.
            let _ = fs::write(setting, "cubic");
            fs::read_to_string(setting).context("cannot read which congestion control TCP has")
        })?;
    }
    Ok(used.trim().to_owned())
}

fn long_line(lab: &Lab) -> &Uplink {
    lab.laptop().uplink().delay(ROUND_TRIP / 2).slow(BITS_PER_SECOND, QUEUE_BYTES)
}

/// The median of some logins, each until `ssh` has ended. What it leaves behind may say goodbye meanwhile, so nothing is waited
/// for that it has inherited.
fn logins(lab: &Lab, peer: &dyn Peer, effort: Effort) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..effort.logins {
        let mut ssh = peer.ssh()?;
        ssh.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let status = lab.laptop().enter(|| ssh.status().context("ssh does not start"))?;
        times.push(begun.elapsed().as_secs_f64());
        ensure!(status.success(), "{ssh:?} ended with {status}");
    }
    Ok(super::table::median(&times))
}

fn login(lab: &Lab, peer: &mut dyn Peer, effort: Effort) -> Result<Option<f64>> {
    let near = logins(lab, peer, effort)?;
    lab.laptop().uplink().delay(LONG_ROUND_TRIP / 2);
    let far = logins(lab, peer, effort)?;
    Ok(Some((far - near) / LONG_ROUND_TRIP.as_secs_f64()))
}

/// The first login, which knows nothing of the network as it is.
fn login_without_udp(lab: &Lab, peer: &mut dyn Peer, effort: Effort) -> Result<Option<f64>> {
    if !peer.uses_udp() {
        return Ok(None);
    }
    lab.laptop().uplink().delay(ROUND_TRIP / 2);
    let open = logins(lab, peer, effort)?;
    lab.laptop().uplink().drop_udp();
    let dropped = logins(lab, peer, Effort { logins: 1, ..effort })?;
    Ok(Some(dropped - open))
}

/// Of one, OpenSSH's client takes 2 MiB more than it has read; of several, as much of each.
fn downloads(lab: &Lab, peer: &mut dyn Peer, effort: Effort, count: usize, loss: f64) -> Result<Option<f64>> {
    long_line(lab).lose(loss);
    let bulks = (0..count).map(|_| Bulk::start(lab, peer)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(RAMP);
    Ok(Some(Bulk::megabits_per_second(&bulks, effort.watch)))
}

/// What the job has received after that time, from the first byte on.
fn upload(lab: &Lab, peer: &mut dyn Peer, effort: Effort, loss: f64) -> Result<Option<f64>> {
    long_line(lab).lose(loss);
    let seconds = (RAMP + effort.watch).as_secs();
    let mut ssh = peer.ssh()?;
    ssh.arg(format!("timeout {seconds} cat | wc -c"));
    let mut endless = Agent::by_shell("exec \"$0\" \"$@\" < /dev/zero", &ssh);
    let received = lab.laptop().enter(|| run(&mut endless, b""))?.text();
    let bytes: f64 = received.trim().parse().with_context(|| received.clone())?;
    Ok(Some(bytes * 8.0 / f64::from(u32::try_from(seconds)?) / 1e6))
}

/// The slowest but one of a hundred, in milliseconds.
fn slow_key(typist: &mut Typist, keys: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..keys {
        times.push(typist.key()?.as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let index = (keys * 99).div_ceil(100).saturating_sub(1);
    times.get(index).copied().context("no key was typed")
}

fn keys_beside_a_download(lab: &Lab, peer: &mut dyn Peer, effort: Effort, loss: f64) -> Result<Option<f64>> {
    long_line(lab).lose(loss);
    let mut typist = Typist::open(lab, peer)?;
    let _bulk = Bulk::start(lab, peer)?;
    std::thread::sleep(RAMP);
    slow_key(&mut typist, effort.keys).map(Some)
}

fn keys_with_jitter(lab: &Lab, peer: &mut dyn Peer, effort: Effort) -> Result<Option<f64>> {
    long_line(lab).jitter(Duration::from_millis(20));
    let mut typist = Typist::open(lab, peer)?;
    slow_key(&mut typist, effort.keys).map(Some)
}

fn outage(lab: &Lab, peer: &mut dyn Peer, _: Effort) -> Result<Option<f64>> {
    let uplink = lab.laptop().uplink().delay(ROUND_TRIP / 2);
    let mut typist = Typist::open(lab, peer)?;
    uplink.cut();
    let key = typist.type_key()?;
    // The outage itself is what is measured.
    std::thread::sleep(OUTAGE);
    uplink.heal();
    let begun = Instant::now();
    Ok(typist.see(&key).is_ok().then(|| begun.elapsed().as_secs_f64()))
}

fn another_address(lab: &Lab, peer: &mut dyn Peer, _: Effort) -> Result<Option<f64>> {
    lab.laptop().uplink().delay(ROUND_TRIP / 2);
    let mut typist = Typist::open(lab, peer)?;
    lab.laptop().change_address()?;
    Ok(typist.key().ok().map(|time| time.as_secs_f64()))
}

fn restart(lab: &Lab, peer: &mut dyn Peer, _: Effort) -> Result<Option<f64>> {
    lab.laptop().uplink().delay(ROUND_TRIP / 2);
    let mut typist = Typist::open(lab, peer)?;
    if !peer.restart_middle()? {
        return Ok(None);
    }
    Ok(typist.key().ok().map(|time| time.as_secs_f64()))
}

fn udp_dies(lab: &Lab, peer: &mut dyn Peer, _: Effort) -> Result<Option<f64>> {
    if !peer.uses_udp() {
        return Ok(None);
    }
    let uplink = lab.laptop().uplink().delay(ROUND_TRIP / 2);
    let mut typist = Typist::open(lab, peer)?;
    uplink.drop_udp();
    Ok(typist.key().ok().map(|time| time.as_secs_f64()))
}

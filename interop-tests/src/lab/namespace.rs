//! A network of its own for each host: a network namespace.

use crate::{
    process::{run, send_signal},
    programs,
};
use anyhow::{Context, Result, ensure};
use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    process::Command,
    thread,
};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";
/// What begins the name of each of ours; the process ID of the test follows.
const PREFIX: &str = "converge-lab-";

/// A network namespace, removed at the end with every process that is still in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    entrance: File,
}

impl Namespace {
    /// Makes an empty one, in which the loopback device is up and there is no IPv6. Names are told apart by the process
    /// ID, so `label` has to be unique only in this process.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn new(label: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        // From here on it is removed, whatever fails.
        let entrance = File::open(Path::new(NAMES).join(&name));
        let namespace = Self { entrance: entrance.with_context(|| format!("no network {name}"))?, name };
        namespace.set("ipv6/conf/all/disable_ipv6", "1")?;
        namespace.configure("link set lo up")?;
        Ok(namespace)
    }

    /// Does `work` on a thread in this network: the sockets it opens and the processes it starts are in it for good.
    ///
    /// # Errors
    /// When the thread cannot move here, or the work fails.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                move_into_link_name_space(self.entrance.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("cannot move into the network {}", self.name))?;
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives lines to `ip`, all of which must succeed.
    ///
    /// # Errors
    /// With what `ip` says.
    pub(crate) fn configure(&self, lines: &str) -> Result<()> {
        let mut command = Command::new(programs::installed("ip")?);
        let output = run(command.args(["-n", &self.name, "-batch", "-"]), lines.as_bytes())?;
        output.success().with_context(|| format!("ip does not want, in {}: {lines}", self.name)).map(drop)
    }

    /// Writes a setting below `/proc/sys/net`.
    ///
    /// # Errors
    /// When the system does not take it.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| {
            fs::write(Path::new("/proc/sys/net").join(name), value)
                .with_context(|| format!("cannot set {name} to {value}"))
        })
    }

    /// The name, for `ip`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what killed tests have left: networks whose process is gone.
pub(crate) fn remove_stale() {
    let Ok(entries) = fs::read_dir(NAMES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

/// Ends what runs in a network, and removes it. Another test may be doing the same: failures do not matter.
fn remove(name: &str) {
    let Ok(program) = programs::installed("ip") else { return };
    if let Ok(inhabitants) = run(Command::new(&program).args(["netns", "pids", name]), b"") {
        for process in inhabitants.text().lines().filter_map(|line| line.parse().ok()) {
            let _ = send_signal(process, Signal::KILL);
        }
    }
    let _ = run(Command::new(&program).args(["netns", "del", name]), b"");
}

/// Runs `ip` on the machine itself.
fn ip(arguments: &[&str]) -> Result<()> {
    let output = run(Command::new(programs::installed("ip")?).args(arguments), b"")?;
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), output.stderr.trim());
    Ok(())
}

//! Bytes that come out of the job for as long as anybody reads them.

use super::peer::Peer;
use crate::{Lab, process::eventually};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Such a session. It ends when this is dropped.
pub struct Bulk {
    ssh: Child,
    received_bytes: Arc<AtomicU64>,
}

impl Bulk {
    /// Starts it, and waits for its first bytes.
    ///
    /// # Errors
    /// When none come.
    pub fn start(lab: &Lab, peer: &dyn Peer) -> Result<Self> {
        let mut command = peer.ssh()?;
        command
            .process_group(0)
            .arg("cat /dev/zero")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut ssh = lab.laptop().enter(|| Ok(command.spawn()?))?;
        let mut output = ssh.stdout.take().context("standard output is a pipe")?;
        let received_bytes = Arc::new(AtomicU64::new(0));
        let bulk = Self { ssh, received_bytes: received_bytes.clone() };
        std::thread::spawn(move || {
            let mut block = vec![0; 256 * 1024];
            while let Ok(bytes @ 1..) = output.read(&mut block) {
                received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        });
        eventually("the first bytes", || (bulk.received() > 0).then_some(()))?;
        Ok(bulk)
    }

    fn received(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// How many megabits per second arrive by all of these, over so much time from now on.
    pub fn megabits_per_second(all: &[Self], time: Duration) -> f64 {
        let received = || all.iter().map(Self::received).sum::<u64>();
        let (before, begun) = (received(), Instant::now());
        std::thread::sleep(time);
        let bytes = u32::try_from(received() - before).unwrap_or(u32::MAX);
        f64::from(bytes) * 8.0 / begun.elapsed().as_secs_f64() / 1e6
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // With all that it has started, which would go on reading. It may have ended already.
        if let Some(group) = i32::try_from(self.ssh.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.ssh.wait();
    }
}

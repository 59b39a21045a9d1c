//! A large file on its way while the network or the relay goes wrong.

use anyhow::{Context, Result, bail};
use converge_interop_tests::{Agent, Lab, Process, files};
use rand::RngExt;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const MIB: u64 = 1024 * 1024;

/// From the laptop to the job, or back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Put,
    Get,
}

/// A transfer by sftp that is under way.
pub(crate) struct Transfer<'a> {
    lab: &'a Lab,
    sftp: Process,
    from: PathBuf,
    to: PathBuf,
    bytes: u64,
    start: Instant,
}

impl<'a> Transfer<'a> {
    /// Starts one of so many MiB, on a carrier or `auto`.
    pub(crate) fn start(lab: &'a Lab, agent: &Agent, way: Way, mib: u64, carrier: &str) -> Result<Self> {
        let (here, there) = (lab.path().join("here"), lab.job_directory().join("there"));
        let (from, to, batch) = match way {
            Way::Put => (here, there, "put here there"),
            Way::Get => (there, here, "get there here"),
        };
        files::write_random(&from, mib * MIB)?;
        let sftp = lab.start_sftp(agent, carrier, batch)?;
        Ok(Self { lab, sftp, from, to, bytes: mib * MIB, start: Instant::now() })
    }

    /// Disturbs it so many times, at random bytes of its way.
    pub(crate) fn disturb(&mut self, times: u32, mut disturb: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let mut random = self.lab.random();
        // Not in the last tenth: it must still be under way afterwards.
        let mut moments: Vec<u64> = (0..times).map(|_| random.random_range(0..self.bytes / 10 * 9)).collect();
        moments.sort_unstable();
        println!("disturbed at {:?} MiB", moments.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>());
        for (number, moment) in (1..).zip(moments) {
            self.wait_for_progress(moment).with_context(|| format!("before disturbance {number}"))?;
            disturb(number).with_context(|| format!("disturbance {number}"))?;
        }
        Ok(())
    }

    /// Waits until so many bytes have arrived.
    fn wait_for_progress(&mut self, bytes: u64) -> Result<()> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let arrived = length(&self.to);
            if arrived >= bytes {
                return Ok(());
            }
            if arrived > last {
                (last, since) = (arrived, Instant::now());
            }
            if since.elapsed() > converge_interop_tests::process::PATIENCE {
                bail!("no byte after {last} of {} has arrived", self.bytes);
            }
            if let Some(status) = self.sftp.try_wait()? {
                bail!("sftp ended after {arrived} bytes with {status}:\n{}", self.sftp.log());
            }
            // The file has no event to wait for.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end, and for the file to be the same on both sides. Returns what the client logged.
    pub(crate) fn finish(mut self) -> Result<String> {
        self.wait_for_progress(self.bytes)?;
        let status = self.sftp.wait()?;
        assert!(status.success(), "{status}: {}", self.sftp.log());
        let mib = u32::try_from(self.bytes / MIB)?;
        println!("{mib} MiB in {:.1} s", self.start.elapsed().as_secs_f64());
        assert_eq!(files::sha256(&self.to)?, files::sha256(&self.from)?);
        Ok(self.sftp.log())
    }

    /// What the client has logged so far.
    pub(crate) fn log(&self) -> String {
        self.sftp.log()
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

//! A session in which both sides talk all the time, to see that nothing of it is lost.

use anyhow::{Result, ensure};
use converge_interop_tests::{Carrier, Lab, Process, process::PATIENCE};
use std::time::Instant;

/// Says back what it hears, and counts whether or not anybody hears it.
const JOB: &str = "(n=0; while sleep 0.1; do n=$((n+1)); echo \"count $n\"; done) & cat; kill $!";

/// A session that goes on in both directions.
pub(crate) struct Talk {
    process: Process,
    said: u32,
    heard: u32,
    counted: u32,
}

impl Talk {
    /// Opens one from the laptop. Its log is `name.log`.
    pub(crate) fn open(lab: &Lab, carrier: Carrier, name: &str, address: &str) -> Result<Self> {
        let mut ssh = lab.openssh_to("ssh", address)?;
        ssh.env("CONVERGE_TRANSPORT", carrier.to_string()).arg(JOB);
        Ok(Self { process: lab.laptop().start(name, &mut ssh)?, said: 0, heard: 0, counted: 0 })
    }

    /// Says a hundred words, and waits for nothing.
    pub(crate) fn say(&mut self) -> Result<()> {
        for _ in 0..100 {
            self.said += 1;
            self.process.write_line(&format!("word {}", self.said))?;
        }
        Ok(())
    }

    /// Waits until everything that was said is heard. Nothing is missing, there twice or in another order.
    pub(crate) fn hear(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.heard < self.said {
            let line = self.process.wait_for("anything", |line| Some(line.to_owned()))?;
            let (counter, what) = match line.split_once(' ') {
                Some(("count", _)) => (&mut self.counted, "count"),
                _ => (&mut self.heard, "word"),
            };
            *counter += 1;
            ensure!(line == format!("{what} {counter}"), "{line:?} instead of {what} {counter}");
            ensure!(Instant::now() < deadline, "{} of {} words have come back", self.heard, self.said);
        }
        Ok(())
    }

    /// Ends the session as it should end. Returns how far the job has counted.
    pub(crate) fn end(mut self) -> Result<u32> {
        self.process.end_input();
        let status = self.process.wait()?;
        ensure!(status.success(), "{status}: {}", self.process.log());
        Ok(self.counted)
    }
}

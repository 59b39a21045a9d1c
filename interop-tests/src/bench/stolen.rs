//! How much of this machine's processors others had meanwhile: virtual machines share them, and a figure says little then.

use anyhow::{Context, Result};
use std::fs;

/// What the processors have done since they started, as `/proc/stat` has it (`proc_stat(5)`). In ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    busy: u64,
    stolen: u64,
}

impl Processors {
    /// Until now.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&stat).context("/proc/stat has no line for all processors")
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else { return None };
        Some(Self { busy: user + nice + system + irq + softirq, stolen })
    }

    /// The part, of the time in which there was work since then, that went to other machines.
    #[expect(clippy::cast_precision_loss, reason = "ticks of minutes")]
    pub fn stolen_since(self, then: Self) -> f64 {
        let stolen = self.stolen.saturating_sub(then.stolen);
        let all = stolen + self.busy.saturating_sub(then.busy);
        if all == 0 { 0.0 } else { stolen as f64 / all as f64 }
    }

    /// The same as a line for people, below what was measured since then.
    ///
    /// # Errors
    /// As [`now`](Self::now).
    pub fn line(self) -> Result<String> {
        let percent = 100.0 * Self::now()?.stolen_since(self);
        Ok(format!(
            "Of the time that the processors had work, {percent:.0} % went to other machines on the same hardware meanwhile."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Processors;

    #[test]
    fn part_that_was_stolen_is_of_the_time_with_work() {
        let then = Processors::parse("cpu  10 0 10 900 5 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1").unwrap();
        let now = Processors::parse("cpu  30 5 20 1900 5 2 3 60 0 0").unwrap();
        assert!((now.stolen_since(then) - 0.6).abs() < 1e-9);
        assert!(then.stolen_since(then).abs() < 1e-9);
        assert!(Processors::parse("intr 1 2 3\ncpu 1 2").is_none());
    }
}

//! What came of it.

use super::{Machine, World};
use std::{fmt, time::Duration};

/// What is counted on the way.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) machine: Machine,
    pub(super) handshakes: u64,
    pub(super) retries: u64,
    pub(super) refused: u64,
    pub(super) ignored: u64,
    pub(super) refused_registrations: u64,
}

/// What came of a relay's death. Dialers are the agents and the clients that were there.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who lost their relay.
    pub dialers: usize,
    /// Of those, who is back at another one.
    pub back: usize,
    /// When half of them, 99 % and all were back.
    pub back_after: [Option<Duration>; 3],
    /// Dials of one dialer: all of them divided by their number, and the most.
    pub dials_each: (f64, u32),
    /// Connections that arrived at a relay in one second, at the relay and in the second where there were most.
    pub most_connections_per_second: u32,
    /// Connections of one dialer that arrived at a relay.
    pub connections_each: f64,
    /// Handshakes that relays did for one dialer.
    pub handshakes_each: f64,
    /// Retries, refusals, first packets that were not answered.
    pub turned_away: [u64; 3],
    /// Work that waited at one relay.
    pub most_queued: u32,
    /// How long it took until it was done.
    pub longest_wait: Duration,
    /// What etcd wrote, in all and in one second, and what waited for it.
    pub etcd_writes: (u64, u32, u32),
    /// Registrations that were not in, because etcd took too long or no more, or for other reasons.
    pub failed_registrations: u64,
}

impl World<'_> {
    // Figures for people: what a float loses of a count does not show.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn report(self) -> Report {
        let dialers = self.dialers.len();
        let each = |count: u64| count as f64 / dialers as f64;
        let after = |thousandths: usize| {
            let rank = (dialers * thousandths).div_ceil(1000).max(1) - 1;
            self.back.get(rank).copied()
        };
        let begun = self.relays.iter().map(|relay| relay.begun.all).sum();
        let most = |of: fn(&super::Relay) -> u32| self.relays.iter().map(of).max().unwrap_or_default();
        Report {
            dialers,
            back: self.back.len(),
            back_after: [after(500), after(990), after(1000)],
            dials_each: (
                each(self.redials.all),
                self.dialers.iter().map(|dialer| dialer.dials).max().unwrap_or_default(),
            ),
            most_connections_per_second: most(|relay| relay.begun.most),
            connections_each: each(begun),
            handshakes_each: each(self.counts.handshakes),
            turned_away: [self.counts.retries, self.counts.refused, self.counts.ignored],
            most_queued: most(|relay| relay.most_queued),
            longest_wait: self.relays.iter().map(|relay| relay.longest_wait).max().unwrap_or_default(),
            etcd_writes: (self.etcd.writes.all, self.etcd.writes.most, self.etcd.most_queued),
            failed_registrations: self.counts.refused_registrations,
        }
    }
}

impl Report {
    /// What the columns of a row are.
    pub const HEADER: &str = "who lost their relay | back after: half, 99 %, all | dials each: mean, most | connections/s at one relay | \
        handshakes each | work waiting at one relay; longest | etcd writes: all, most/s, waiting | registrations that failed";
    /// How many they are.
    pub const COLUMNS: usize = 8;
}

/// A row of a table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | ", self.dialers)?;
        if self.back < self.dialers {
            write!(f, "**{} not back**: ", self.dialers - self.back)?;
        }
        let [half, most, all] = self.back_after.map(|after| match after {
            Some(after) => format!("{:.1}", after.as_secs_f64()),
            None => "–".to_owned(),
        });
        let (mean, max) = self.dials_each;
        let (writes, per_second, waiting) = self.etcd_writes;
        write!(
            f,
            "{half}, {most}, {all} s | {mean:.1}, {max} | {} | {:.2} | {}; {:.1} s | {writes}, {per_second}, {waiting} | {}",
            self.most_connections_per_second,
            self.handshakes_each,
            self.most_queued,
            self.longest_wait.as_secs_f64(),
            self.failed_registrations,
        )
    }
}

//! How a relay that stops lets go of who is here.
//!
//! One that is alone lets go of everybody at once, so that it is soon back. One of several hands agents and sessions to the
//! others at a bounded rate, so that these are not overrun, and waits until they have them.

use crate::shared::Shared;
use std::time::Duration;

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Within which everybody is told, each at a time of its own.
    spread: Duration,
    /// How long who was told may then stay.
    timeout: Duration,
    /// Whether there is a relay that takes them.
    has_takers: bool,
}

impl Drain {
    /// For who is here now.
    pub(crate) fn of(shared: &Shared) -> Self {
        let (timeout, rate) = {
            let live = shared.live.borrow();
            (live.drain_timeout, live.drain_rate)
        };
        let has_takers = shared.cluster.as_ref().is_some_and(|cluster| cluster.has_takers());
        let (agents, _) = shared.directory.counts();
        // Sessions of agents here go with their agents; of the others, each comes to another relay by itself.
        let leaving = if has_takers { agents.max(shared.sessions.len()) } else { 0 };
        Self { spread: spread(leaving, rate), timeout, has_takers }
    }

    /// The longest that it takes.
    pub(crate) fn longest(self) -> Duration {
        self.spread.saturating_add(self.timeout)
    }

    /// Begins. Nothing new is taken from now on.
    pub(crate) fn begin(self, shared: &Shared) {
        shared.drain(self.spread);
        shared.sessions.close();
        shared.agents.close();
    }

    /// Until nobody is here any more who has to be waited for.
    pub(crate) async fn ended(self, shared: &Shared) {
        shared.sessions.wait().await;
        if self.has_takers {
            shared.agents.wait().await;
            // What they have brought along from here.
            shared.sessions.wait().await;
        }
    }
}

fn spread(leaving: usize, rate: u32) -> Duration {
    let leaving = u32::try_from(leaving).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * leaving).checked_div(rate).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_let_go_at_the_rate() {
        for (leaving, rate, seconds) in
            [(0, 500, 0.0), (1, 500, 0.002), (500, 500, 1.0), (10_000, 500, 20.0), (10, 0, 0.0)]
        {
            assert!((spread(leaving, rate).as_secs_f64() - seconds).abs() < 1e-6, "{leaving} at {rate}");
        }
        assert_eq!(spread(usize::MAX, 1).as_secs(), u64::from(u32::MAX));
    }
}

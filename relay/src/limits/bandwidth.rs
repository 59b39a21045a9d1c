//! How many bytes per second pass, per session and per agent.
//!
//! Each direction has its own share, so that a download does not hold typing back. A chunk passes when what passed
//! before it is paid for; it may so be late by its own time, and nothing is split. Nobody polls: whoever must wait sleeps
//! until its time.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// What may pass at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(100);
/// What a session takes of its agent's share in one turn, as time at the full rate, and its bounds: large enough to be
/// worth a turn, small enough for the others to have theirs soon.
const TURN: Duration = Duration::from_millis(20);
const MIN_TURN_BYTES: u64 = 2 * 1024;
const MAX_TURN_BYTES: u64 = 64 * 1024;

/// Which of the two directions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    ToAgent,
    ToClient,
}

/// A rate that holds in each direction.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    to_agent: Bucket,
    to_client: Bucket,
}

impl Bandwidth {
    /// `None` for 0: no limit.
    pub(crate) fn new(bytes_per_second: u64) -> Option<Self> {
        let bucket = || Bucket { bytes_per_second, paid_until: Mutex::new(Instant::now()) };
        (bytes_per_second > 0).then(|| Self { to_agent: bucket(), to_client: bucket() })
    }

    fn bucket(&self, way: Way) -> &Bucket {
        match way {
            Way::ToAgent => &self.to_agent,
            Way::ToClient => &self.to_client,
        }
    }
}

#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// When everything that has passed is paid for. Its lock is a queue: whoever came first goes first.
    paid_until: Mutex<Instant>,
}

impl Bucket {
    /// Waits for its turn and until all before it is paid for.
    async fn take(&self, bytes: u64) {
        let mut paid_until = self.paid_until.lock().await;
        sleep_until(*paid_until).await;
        let now = Instant::now();
        let from = (*paid_until).max(now.checked_sub(BURST).unwrap_or(now));
        *paid_until = from + self.time(bytes);
    }

    fn time(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn turn_bytes(&self) -> u64 {
        (self.bytes_per_second / 1000 * u64::try_from(TURN.as_millis()).unwrap_or(u64::MAX))
            .clamp(MIN_TURN_BYTES, MAX_TURN_BYTES)
    }
}

/// One session's part in the limits.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    own: Option<Bandwidth>,
    agents: Option<&'a Bandwidth>,
    /// What it has taken of the agent's and not yet used: turns are of equal size, chunks are not, and sessions with small
    /// ones are to have as much as others.
    credit_to_agent: AtomicI64,
    credit_to_client: AtomicI64,
}

impl<'a> Share<'a> {
    /// `bytes_per_second` is the session's own limit, 0 for none; `agents` is that of all sessions of its agent.
    pub(crate) fn new(bytes_per_second: u64, agents: Option<&'a Bandwidth>) -> Self {
        Self {
            own: Bandwidth::new(bytes_per_second),
            agents,
            credit_to_agent: AtomicI64::new(0),
            credit_to_client: AtomicI64::new(0),
        }
    }

    /// Waits until so many bytes may pass. One at a time per direction.
    pub(crate) async fn pass(&self, way: Way, bytes: usize) {
        if let Some(own) = &self.own {
            own.bucket(way).take(bytes as u64).await;
        }
        let Some(agents) = self.agents else { return };
        let credit = match way {
            Way::ToAgent => &self.credit_to_agent,
            Way::ToClient => &self.credit_to_client,
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut left = credit.load(Ordering::Relaxed) - bytes;
        let bucket = agents.bucket(way);
        while left < 0 {
            let turn = bucket.turn_bytes();
            bucket.take(turn).await;
            left += i64::try_from(turn).unwrap_or(i64::MAX);
        }
        credit.store(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// How much passes in `time` with chunks of these sizes, one session each, on one agent.
    async fn passed(session: u64, agent: u64, chunks: &[usize], time: Duration) -> Vec<u64> {
        let agent = Bandwidth::new(agent);
        let counters: Vec<_> = chunks.iter().map(|_| AtomicU64::new(0)).collect();
        let sessions = chunks.iter().zip(&counters).map(|(chunk, counter)| {
            let share = Share::new(session, agent.as_ref());
            async move {
                loop {
                    share.pass(Way::ToClient, *chunk).await;
                    counter.fetch_add(*chunk as u64, Ordering::Relaxed);
                }
            }
        });
        let _ = tokio::time::timeout(time, futures_util::future::join_all(sessions)).await;
        counters.into_iter().map(AtomicU64::into_inner).collect()
    }

    fn is_about(bytes: u64, wanted: u64) -> bool {
        (wanted * 9 / 10..=wanted * 11 / 10 + 2 * MAX_TURN_BYTES).contains(&bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn session_keeps_to_its_rate() {
        let bytes = passed(1_000_000, 0, &[64 * 1024], Duration::from_secs(10)).await;
        assert!(is_about(bytes[0], 10_000_000), "{bytes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_of_an_agent_have_the_same_whatever_their_chunks() {
        let bytes =
            passed(0, 4_000_000, &[64 * 1024, 1400, 16 * 1024, 64 * 1024], Duration::from_secs(10)).await;
        assert!(bytes.iter().all(|bytes| is_about(*bytes, 10_000_000)), "{bytes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_way_does_not_hold_the_other_back() {
        let agent = Bandwidth::new(10_000);
        let share = Share::new(10_000, agent.as_ref());
        let begun = Instant::now();
        share.pass(Way::ToClient, 1_000_000).await;
        share.pass(Way::ToAgent, 100).await;
        share.pass(Way::ToAgent, 100).await;
        // The turns of the large chunk, and nothing for the small ones.
        let waited = begun.elapsed();
        assert!(waited <= Duration::from_secs(101), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_is_no_wait() {
        let share = Share::new(0, None);
        let begun = Instant::now();
        share.pass(Way::ToAgent, usize::MAX).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

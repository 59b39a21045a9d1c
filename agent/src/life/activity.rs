//! When a user last did something.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::time::{Duration, Instant};

/// The time of the last activity: what a *user* does, as opposed to what a program prints.
///
/// Input to a terminal counts, and traffic in either direction of a command, a file transfer or a forwarded
/// connection that a user opened. Output of a terminal does not: a forgotten `top` must not hold a job. Cheap to clone
/// and to touch: one clock reading and one store.
#[derive(Clone, Debug)]
pub struct Activity {
    begun: Instant,
    /// Milliseconds from `begun` to the last activity.
    last_ms: Arc<AtomicU64>,
}

impl Activity {
    /// Begins now, which counts as the first activity.
    pub fn new() -> Self {
        Self { begun: Instant::now(), last_ms: Arc::default() }
    }

    /// A user does something, now.
    pub fn touch(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(elapsed, Ordering::Relaxed);
    }

    /// When a user last did something, to the millisecond.
    pub fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_touch_counts_whoever_made_it() {
        let activity = Activity::new();
        let begun = activity.last();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(activity.last(), begun);
        activity.clone().touch();
        assert_eq!(activity.last(), begun + Duration::from_secs(5));
    }
}

//! When to try again.

use std::time::Duration;
use tokio::time::Instant;

/// When a peer that is on WebSocket tries QUIC again: after 30 s, and after twice as long with each failure, up to 5 min.
#[derive(Clone, Debug)]
pub struct QuicRetry {
    pause: Duration,
    at: Instant,
}

impl QuicRetry {
    const FIRST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_mins(5);

    /// The first try is 30 s from now.
    pub fn new() -> Self {
        Self { pause: Self::FIRST, at: Instant::now() + Self::FIRST }
    }

    /// When the next try is due.
    pub fn due(&self) -> Instant {
        self.at
    }

    /// A try has failed: QUIC is still blocked.
    pub fn failed(&mut self) {
        self.pause = (self.pause * 2).min(Self::LONGEST);
        self.at = Instant::now() + self.pause;
    }

    /// The network is another one: a try is due at once.
    pub fn hurry(&mut self) {
        self.at = Instant::now();
    }
}

impl Default for QuicRetry {
    fn default() -> Self {
        Self::new()
    }
}

/// Sleeps until then; for ever without a time. Cancel-safe.
pub async fn sleep_until(time: Option<impl Into<Instant>>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_five_minutes() {
        let mut retry = QuicRetry::new();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let before = Instant::now();
            sleep_until(Some(retry.due())).await;
            pauses.push(before.elapsed().as_secs());
            retry.failed();
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
        retry.hurry();
        assert_eq!(retry.due(), Instant::now());
    }
}

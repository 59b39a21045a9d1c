//! What systemd is told, as `sd_notify(3)` describes it. Without a service manager none of it does anything.

use crate::server::Counts;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tracing::debug;

/// How often the counts in the status may change.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// What a stopping relay needs on top of the time that its sessions have.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// The relay serves, or does so again.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read; [`ready`] follows. With the time, as `Type=notify-reload` wants it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot read the monotonic clock"),
    }
}

/// The relay stops; sessions may go on for `drain`, which the manager has to wait for.
pub(super) fn stopping(drain: Duration) {
    let wait = drain.saturating_add(STOP_MARGIN).as_micros();
    let wait = NotifyState::ExtendTimeoutUsec(u32::try_from(wait).unwrap_or(u32::MAX));
    tell(&[NotifyState::Stopping, wait, NotifyState::Status("stopping; sessions may end in peace")]);
}

/// Says how many are here whenever that has changed, and that the relay lives when the manager watches. Never ends.
pub(super) async fn keep_told(counts: Counts) {
    let watchdog = sd_notify::watchdog_enabled();
    // Twice in the time that the manager waits, as sd_watchdog_enabled(3) advises.
    let period = watchdog.map_or(STATUS_INTERVAL, |watchdog| STATUS_INTERVAL.min(watchdog / 2));
    let mut interval = tokio::time::interval(period.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        interval.tick().await;
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let now = counts.now();
        if told != Some(now) {
            told = Some(now);
            let (agents, sessions) = now;
            tell(&[NotifyState::Status(&format!("agents: {agents}, sessions: {sessions}"))]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager cannot be told");
    }
}

//! Takes events to those who want to know: the event log and the hooks.

use crate::{
    events::hooks::Hooks,
    events::log::EventLog,
    events::{Event, TimedEvent},
};
use futures_util::FutureExt;
use std::time::Duration;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long a hook may take.
const HOOK_TIME: Duration = Duration::from_secs(30);
/// How long the hooks that run or wait when the agent ends may take from then on, all together.
const LAST_HOOKS_TIME: Duration = Duration::from_secs(10);
/// How long the hook for the agent's end may take.
const EXIT_HOOK_TIME: Duration = Duration::from_secs(10);
/// How many events may wait for their hook; further ones have none.
const MAX_WAITING: usize = 64;

/// Logs events as they come and runs hooks for them, one at a time, until [`Event::AgentFinished`] or until nobody
/// can emit any more. The log never waits for a hook.
///
/// To be awaited at the end of the agent's life. When the end comes, the hooks that run or wait have 10 seconds left,
/// after which they are killed or dropped with a warning; then the one for the end runs, for at most 10 seconds.
pub async fn dispatch(mut events: mpsc::Receiver<TimedEvent>, mut log: Option<EventLog>, hooks: Hooks) {
    let (queue, mut waiting) = mpsc::channel::<TimedEvent>(MAX_WAITING);
    let ending = CancellationToken::new();

    let reading = async {
        // Taken along, so that the queue ends with the events.
        let queue = queue;
        let mut last = None;
        while let Some(event) = events.recv().await {
            if let Some(log) = &mut log {
                log.write(&event).await;
            }
            if matches!(event.event, Event::AgentFinished { .. }) {
                // What was emitted before is still read.
                events.close();
                ending.cancel();
                last = Some(event);
            } else if hooks.want(&event.event) && queue.try_send(event).is_err() {
                warn!("an event has no hook: too many hooks are waiting");
            }
        }
        ending.cancel();
        last
    };
    let running = async {
        let end = async {
            ending.cancelled().await;
            sleep(LAST_HOOKS_TIME).await;
        };
        let end = end.shared();
        let mut dropped = 0_usize;
        while let Some(event) = waiting.recv().await {
            if end.clone().now_or_never().is_some() {
                dropped += 1;
                continue;
            }
            let time_is_over = async {
                tokio::select! {
                    () = sleep(HOOK_TIME) => {}
                    () = end.clone() => {}
                }
            };
            hooks.run(&event, time_is_over).await;
        }
        if dropped > 0 {
            warn!(dropped, "the agent ends, and hooks that still waited are not run");
        }
    };
    if let (Some(last), ()) = tokio::join!(reading, running) {
        hooks.run(&last, sleep(EXIT_HOOK_TIME)).await;
    }
}

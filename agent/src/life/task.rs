//! The task that owns an agent's life.

use super::{
    Command, EndReason, HoldChange, HoldError, HoldFile, Life, LifeConfig, Present, Short, Snapshot,
};
use crate::{
    events::{Event, Events},
    life::activity::Activity,
    life::notice::Notice,
};
use converge_proto::expiry::{Clock, Expired, Expiry, ExpiryAction};
use converge_transport::sleep_until;
use std::{io, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, info};

/// How often users who were warned are looked at: the answer to a key should come soon.
const WARNED_LOOK: Duration = Duration::from_millis(500);
/// How long users have to read that the job was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Lives an agent's life; see [`LifeTask::run`].
#[derive(Debug)]
pub struct LifeTask {
    expiry: Expiry,
    activity: Activity,
    events: Events,
    hold: HoldFile,
    users: Vec<Present>,
    life: Life,
    inbox: mpsc::UnboundedReceiver<Command>,
}

impl LifeTask {
    pub(super) fn new(config: LifeConfig, life: Life, inbox: mpsc::UnboundedReceiver<Command>) -> Self {
        let expiry = Expiry::new(config.limits, Instant::now().into());
        let hold = HoldFile::watch(config.hold_file);
        let (activity, events) = (config.activity, config.events);
        Self { expiry, activity, events, hold, users: Vec::new(), life, inbox }
    }

    /// Runs until something ends the agent, and says what. Users who are there have been told by then.
    pub async fn run(mut self) -> EndReason {
        self.look_at_hold();
        loop {
            if let Some(reason) = self.look_at_clocks() {
                info!(%reason, "the agent ends");
                return self.end(reason);
            }
            self.publish();
            let due = self.expiry.poll_timeout().map(Instant::from);
            // While users are warned, what they do counts at once.
            let look = self.expiry.is_warned().then(|| Instant::now() + WARNED_LOOK);
            let due = due.into_iter().chain(look).min();
            tokio::select! {
                Some(command) = self.inbox.recv() => {
                    if let Some(reason) = self.handle(command) {
                        if let EndReason::Signal(_) | EndReason::Operator = reason {
                            self.announce_end(reason).await;
                        }
                        info!(%reason, "the agent ends");
                        return self.end(reason);
                    }
                }
                () = self.hold.changed() => self.look_at_hold(),
                () = sleep_until(due) => {}
            }
        }
    }

    /// What the clocks say now; users are told.
    fn look_at_clocks(&mut self) -> Option<EndReason> {
        self.expiry.handle_activity(self.activity.last().into());
        loop {
            match self.expiry.handle_timeout(Instant::now().into()) {
                ExpiryAction::Wait => return None,
                ExpiryAction::Warn { clock, remaining } => self.warn(clock, remaining),
                ExpiryAction::Relieve(_) => {
                    self.life.tell(Notice::info(format!("the job stays open{}", self.when_it_ends())));
                }
                ExpiryAction::End(Expired::LastLogout) => return Some(EndReason::LastLogout),
                ExpiryAction::End(Expired::Clock(clock)) => {
                    return Some(EndReason::Clock(clock, self.limit(clock)));
                }
            }
        }
    }

    fn warn(&self, clock: Clock, remaining: Duration) {
        let left = Short(remaining);
        let text = match clock {
            Clock::First => format!("this job ends in {left}: {clock}"),
            Clock::Idle => {
                format!("this job ends in {left}: {clock}; press a key, or run: converge-agent extend 1h")
            }
            Clock::Lifetime => format!("this job ends in {left}: {clock}; save what you need"),
        };
        debug!(text, "warning");
        self.life.tell(Notice::warning(text, Some(remaining)));
        let remaining_seconds = remaining.as_secs();
        self.events.emit(Event::Warning { reason: clock.to_string(), remaining_seconds });
    }

    fn handle(&mut self, command: Command) -> Option<EndReason> {
        let now = Instant::now();
        match command {
            Command::Join(present) => {
                self.expiry.handle_login(now.into());
                self.users.push(present);
                if let Some(present) = self.users.last() {
                    self.tell_others(present, "joined");
                }
            }
            Command::Leave { session } => {
                if let Some(at) = self.users.iter().position(|present| present.session == session) {
                    let present = self.users.remove(at);
                    self.expiry.handle_logout(now.into());
                    self.tell_others(&present, "left");
                }
            }
            Command::Extend { by, who, answer } => {
                self.expiry.extend(now.into(), (now + by).into());
                // Users who were warned are told that it has been put off, anyway.
                if !self.expiry.is_warned() {
                    let by = who.map(|who| format!("{who}: ")).unwrap_or_default();
                    self.life.tell(Notice::info(format!("{by}more time{}", self.when_it_ends())));
                }
                self.publish();
                // Whoever asked may have gone.
                let _ = answer.send(self.life.snapshot());
            }
            Command::Hold { change, answer } => {
                let changed = self.change_hold(change);
                let path = self.hold.path().to_owned();
                let answered = changed.map_err(|source| HoldError { path, source });
                let _ = answer.send(answered.map(|()| self.life.snapshot()));
            }
            Command::End(reason) => return Some(reason),
        }
        None
    }

    fn change_hold(&mut self, change: HoldChange) -> io::Result<()> {
        match change {
            HoldChange::Hold(time) => self.hold.hold(time)?,
            HoldChange::Release => self.hold.release()?,
        }
        self.look_at_hold();
        self.publish();
        Ok(())
    }

    fn look_at_hold(&mut self) {
        let hold = self.hold.read();
        let (was_held, is_held) = (self.expiry.is_held(), hold.is_some());
        self.expiry.handle_hold(hold.map(Into::into));
        if was_held != is_held {
            info!(is_held, "hold");
            let text = if is_held {
                "the job is held: it stays open when the last user leaves"
            } else {
                "the hold is gone: the job goes on when the last user leaves"
            };
            self.life.tell(Notice::info(text));
        }
    }

    fn tell_others(&self, present: &Present, what: &str) {
        let count = self.users.len();
        let text = format!("{} {what}; {count} here now", present.user);
        self.life.tell(Notice::info(text).not_for(&present.session));
    }

    /// Users see it before their sessions are cut.
    async fn announce_end(&self, reason: EndReason) {
        if self.users.is_empty() {
            return;
        }
        let what = match reason {
            EndReason::Operator => "the relay's operator ends this session with the job",
            _ => "this job was cancelled",
        };
        let text = format!("{what}; it ends in {}", Short(CANCEL_GRACE));
        self.life.tell(Notice::warning(text, Some(CANCEL_GRACE)));
        tokio::time::sleep(CANCEL_GRACE).await;
    }

    fn end(self, reason: EndReason) -> EndReason {
        // Nobody else sets it.
        let _ = self.life.farewell.set(format!("the agent ends: {reason}"));
        reason
    }

    fn publish(&self) {
        self.life.snapshots.send_replace(Snapshot {
            users: self.users.clone(),
            deadline: Snapshot::deadline_of(self.expiry.deadline()),
            latest: self.expiry.latest().map(Into::into),
            is_held: self.expiry.is_held(),
            limits: self.expiry.limits().clone(),
        });
    }

    /// `; it ends in …`, or nothing when no clock runs.
    fn when_it_ends(&self) -> String {
        let Some(deadline) = self.expiry.deadline() else { return String::new() };
        let left = Instant::from(deadline.at).saturating_duration_since(Instant::now());
        format!("; it ends in {} at the earliest ({})", Short(left), deadline.clock)
    }

    fn limit(&self, clock: Clock) -> Duration {
        let limits = self.expiry.limits();
        match clock {
            Clock::First => limits.first,
            Clock::Idle => limits.idle,
            Clock::Lifetime => limits.lifetime,
        }
        .unwrap_or_default()
    }
}

//! When an agent ends by itself: nobody came, nobody does anything, it has been there for too long, or everybody left.
//!
//! Feed [`Expiry`] with what happens, then call [`Expiry::handle_timeout`] and do what it says until it says to wait;
//! sleep until [`Expiry::poll_timeout`], and so on.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// How long an agent may live, and when its users are warned. `None` switches a clock off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryLimits {
    /// Nobody has logged in yet.
    pub first: Option<Duration>,
    /// Nobody does anything.
    pub idle: Option<Duration>,
    /// Whatever anybody does.
    pub lifetime: Option<Duration>,
    /// Users are warned this long before the nearest clock. One that is not shorter than the clock is not given.
    pub warn: Vec<Duration>,
}

/// What ends an agent when nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nobody has logged in.
    First,
    /// Nobody does anything.
    Idle,
    /// The hard cap.
    Lifetime,
}

impl Clock {
    /// Its name on the wire and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "nobody has logged in",
            Self::Idle => "nobody does anything",
            Self::Lifetime => "its longest lifetime is over",
        })
    }
}

/// Why an agent ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A clock has run out.
    Clock(Clock),
    /// The last user has left, and nothing holds the agent.
    LastLogout,
}

/// What to do after a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryAction {
    /// Nothing.
    Wait,
    /// Tell users that this clock will end the agent unless something happens.
    Warn {
        /// Which.
        clock: Clock,
        /// How long until then.
        remaining: Duration,
    },
    /// Tell users who were warned of this clock that it has been put off.
    Relieve(Clock),
    /// End the agent.
    End(Expired),
}

/// The nearest clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Which.
    pub clock: Clock,
    /// When it runs out.
    pub at: Instant,
    /// A warning must come later than this long before, or it would come with what it warns of.
    window: Duration,
}

/// The state of an agent's clocks.
#[derive(Clone, Debug)]
pub struct Expiry {
    limits: ExpiryLimits,
    begun: Instant,
    last_activity: Instant,
    users: usize,
    anybody_came: bool,
    /// When somebody last asked to hold the agent; possibly in the future.
    hold: Option<Instant>,
    /// When somebody asked for more time, and until when.
    extended: Option<(Instant, Instant)>,
    /// What users were last warned of, and how long before it.
    warned: Option<(Deadline, Duration)>,
}

impl Expiry {
    /// An agent that begins now.
    pub fn new(mut limits: ExpiryLimits, now: Instant) -> Self {
        limits.warn.sort_unstable();
        Self {
            limits,
            begun: now,
            last_activity: now,
            users: 0,
            anybody_came: false,
            hold: None,
            extended: None,
            warned: None,
        }
    }

    /// What the clocks were set to.
    pub fn limits(&self) -> &ExpiryLimits {
        &self.limits
    }

    /// Somebody has logged in.
    pub fn handle_login(&mut self, now: Instant) {
        self.users += 1;
        self.anybody_came = true;
        self.handle_activity(now);
    }

    /// Somebody who had logged in has left.
    pub fn handle_logout(&mut self, now: Instant) {
        self.users = self.users.saturating_sub(1);
        self.handle_activity(now);
    }

    /// A user did something, then.
    pub fn handle_activity(&mut self, then: Instant) {
        self.last_activity = self.last_activity.max(then);
    }

    /// Somebody holds the agent, which counts as activity at `since`, now or in the future; `None`: nobody does.
    pub fn handle_hold(&mut self, since: Option<Instant>) {
        self.hold = since;
    }

    /// Neither of the first two clocks runs out before `until`. The hard cap stays. Never takes time away.
    pub fn extend(&mut self, now: Instant, until: Instant) {
        if self.extended.is_none_or(|(_, so_far)| so_far < until) {
            self.extended = Some((now, until));
        }
    }

    /// Whether somebody holds the agent.
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether users were warned of a clock that has not been put off since.
    pub fn is_warned(&self) -> bool {
        self.warned.is_some()
    }

    /// When the hard cap ends it.
    pub fn latest(&self) -> Option<Instant> {
        self.limits.lifetime.map(|limit| self.begun + limit)
    }

    /// The clock that runs out first, as things are.
    pub fn deadline(&self) -> Option<Deadline> {
        let soft = if self.anybody_came {
            self.limits.idle.map(|limit| (Clock::Idle, self.last_activity, limit))
        } else {
            self.limits.first.map(|limit| (Clock::First, self.begun, limit))
        };
        let soft = soft.map(|(clock, since, window)| {
            // A hold counts as activity.
            let at = self.hold.map_or(since, |hold| hold.max(since)) + window;
            match self.extended {
                Some((asked, until)) if until > at => Deadline { clock, at: until, window: until - asked },
                _ => Deadline { clock, at, window },
            }
        });
        let hard = self.limits.lifetime.zip(self.latest());
        let hard = hard.map(|(window, at)| Deadline { clock: Clock::Lifetime, at, window });
        soft.into_iter().chain(hard).min_by_key(|deadline| deadline.at)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next, after it has said to wait.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.everybody_left() {
            return Some(self.last_activity);
        }
        let deadline = self.deadline()?;
        let next = self.warnings(&deadline).next_back();
        Some(next.map_or(deadline.at, |before| deadline.at.checked_sub(before).unwrap_or(self.begun)))
    }

    /// Says what to do now. Call it until it says to wait.
    pub fn handle_timeout(&mut self, now: Instant) -> ExpiryAction {
        if self.everybody_left() {
            return ExpiryAction::End(Expired::LastLogout);
        }
        let deadline = self.deadline();
        if let Some((warned_of, _)) = self.warned {
            let still = deadline
                .is_some_and(|deadline| deadline.clock == warned_of.clock && deadline.at <= warned_of.at);
            if !still {
                self.warned = None;
                return ExpiryAction::Relieve(warned_of.clock);
            }
        }
        let Some(deadline) = deadline else { return ExpiryAction::Wait };
        let remaining = deadline.at.saturating_duration_since(now);
        if remaining.is_zero() {
            return ExpiryAction::End(Expired::Clock(deadline.clock));
        }
        // Who comes late says only the most urgent one.
        let due = self.warnings(&deadline).find(|before| remaining <= *before);
        match due {
            Some(before) => {
                self.warned = Some((deadline, before));
                ExpiryAction::Warn { clock: deadline.clock, remaining }
            }
            None => ExpiryAction::Wait,
        }
    }

    fn everybody_left(&self) -> bool {
        self.anybody_came && self.users == 0 && self.hold.is_none()
    }

    /// The warnings of a deadline that were not given yet, the last one first.
    fn warnings(&self, deadline: &Deadline) -> impl DoubleEndedIterator<Item = Duration> {
        let (window, given) = (deadline.window, self.warned.map(|(_, before)| before));
        let fits = move |before: &Duration| *before < window && given.is_none_or(|given| *before < given);
        self.limits.warn.iter().copied().filter(fits)
    }
}

#[cfg(test)]
mod tests;

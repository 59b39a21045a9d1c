//! When a peer that does not answer is suspected.

use std::time::{Duration, Instant};

/// Watches one path to a peer: traffic that must be answered, and questions when there is none.
///
/// Tell it of everything that was sent and demands an answer, and of everything that arrived; sleep until
/// [`poll_timeout`](Self::poll_timeout), then call [`handle_timeout`](Self::handle_timeout) and do what it says.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Since when an answer is due, if one is.
    awaiting_since: Option<Instant>,
    idle: Duration,
    next_ask: Instant,
    suspected: bool,
    pings_sent: u64,
}

/// What to do after a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchAction {
    /// Ask the peer, with this token, and report that as sent.
    Ask(u64),
    /// No answer for [`Watch::SUSPICION`]: look for another path. Said once; an answer takes it back.
    Suspect,
    /// Too early; nothing to do.
    Wait,
}

impl Watch {
    /// How long an answer may take. Design: suspicion within 3 s of unanswered traffic.
    pub const SUSPICION: Duration = Duration::from_millis(2500);
    /// The usual time after which a path without traffic is asked, which also keeps NATs from forgetting it.
    pub const IDLE: Duration = Duration::from_secs(15);

    /// Begins on a path that works and is asked after `idle` without traffic.
    pub fn new(idle: Duration, now: Instant) -> Self {
        Self { awaiting_since: None, idle, next_ask: now + idle, suspected: false, pings_sent: 0 }
    }

    /// Something was sent that the peer answers.
    pub fn handle_sent(&mut self, now: Instant) {
        self.next_ask = now + self.idle;
        self.awaiting_since.get_or_insert(now);
    }

    /// Something arrived; `more_due` says whether the peer still owes an answer to something that was sent.
    pub fn handle_received(&mut self, more_due: bool, now: Instant) {
        self.next_ask = now + self.idle;
        self.awaiting_since = more_due.then_some(now);
        self.suspected = false;
    }

    /// Asks at once, for when something makes the path doubtful: the host's network has changed.
    pub fn doubt(&mut self, now: Instant) {
        self.next_ask = now;
    }

    /// Whether the peer owes an answer for too long.
    pub fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Since when an answer is due, if one is.
    pub fn awaiting_since(&self) -> Option<Instant> {
        self.awaiting_since
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next; `None` while only an answer can help.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.awaiting_since {
            Some(_) if self.suspected => None,
            Some(since) => Some(since + Self::SUSPICION),
            None => Some(self.next_ask),
        }
    }

    /// Call at or after [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) -> WatchAction {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return WatchAction::Wait;
        }
        if self.awaiting_since.is_some() {
            self.suspected = true;
            return WatchAction::Suspect;
        }
        self.pings_sent += 1;
        WatchAction::Ask(self.pings_sent)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unanswered_traffic_is_suspected_once_and_an_answer_takes_it_back() {
        let start = Instant::now();
        let mut watch = Watch::new(Watch::IDLE, start);
        watch.handle_sent(start + SECOND);
        watch.handle_sent(start + SECOND * 2);
        let due = start + SECOND + Watch::SUSPICION;
        assert_eq!(watch.poll_timeout(), Some(due), "the first unanswered counts");
        assert_eq!(watch.handle_timeout(due - SECOND), WatchAction::Wait);
        assert_eq!(watch.handle_timeout(due), WatchAction::Suspect);
        assert_eq!((watch.poll_timeout(), watch.is_suspected()), (None, true));
        assert_eq!(watch.handle_timeout(due + SECOND), WatchAction::Wait, "said once");
        watch.handle_received(false, due + SECOND);
        assert!(!watch.is_suspected());
    }

    #[test]
    fn peer_that_answers_something_else_still_owes_the_rest() {
        let start = Instant::now();
        let mut watch = Watch::new(Watch::IDLE, start);
        watch.handle_sent(start);
        watch.handle_received(true, start + SECOND);
        assert_eq!(watch.poll_timeout(), Some(start + SECOND + Watch::SUSPICION));
    }

    #[test]
    fn idle_path_is_asked_and_a_doubtful_one_at_once() {
        let start = Instant::now();
        let mut watch = Watch::new(Watch::IDLE, start);
        assert_eq!(watch.handle_timeout(start + Watch::IDLE), WatchAction::Ask(1));
        watch.handle_sent(start + Watch::IDLE);
        watch.handle_received(false, start + Watch::IDLE);
        assert_eq!(watch.poll_timeout(), Some(start + Watch::IDLE * 2));
        watch.doubt(start + Watch::IDLE);
        assert_eq!(watch.handle_timeout(start + Watch::IDLE), WatchAction::Ask(2));
    }
}

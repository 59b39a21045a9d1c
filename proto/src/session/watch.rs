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
    /// The shortest and the longest pause before a path without traffic is asked.
    pauses: (Duration, Duration),
    pause: Duration,
    next_ask: Instant,
    suspected: bool,
    pings_sent: u64,
}

/// What to do after a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchAction {
    /// Ask the peer, with this token. An answer is due from now on, if none was before.
    Ask(u64),
    /// No answer for [`Watch::SUSPICION`]: look for another path. Said once; an answer takes it back. Meanwhile the peer is
    /// asked again and again.
    Suspect,
    /// Too early; nothing to do.
    Wait,
}

impl Watch {
    /// How long an answer may take. Design: suspicion within 3 s of unanswered traffic; with less than half a second for the way that is
    /// then looked for, nobody waits longer than that.
    pub const SUSPICION: Duration = Duration::from_millis(2400);
    /// A path on which there was traffic a moment ago is asked after this long: somebody may be waiting for more.
    pub const PAUSE: Duration = Duration::from_secs(3);
    /// The longest usual pause before a path without traffic is asked, which also keeps NATs from forgetting it.
    pub const IDLE: Duration = Duration::from_secs(15);
    /// How soon a suspected peer is asked again, at least. The carrier asks by itself, but after twice as long each time: a
    /// path that is back after ten seconds would be found three seconds later.
    pub const REPEAT: Duration = Duration::from_millis(50);
    /// The longer it has been silent, the less: after this part of the time since when an answer is due.
    const REPEAT_PART: u32 = 100;

    /// Begins on a path that works. Without traffic it is asked after the first of the pauses, then after twice as
    /// long each time, up to the second.
    pub fn new(pauses: (Duration, Duration), now: Instant) -> Self {
        let (pause, _) = pauses;
        Self { awaiting_since: None, pauses, pause, next_ask: now + pause, suspected: false, pings_sent: 0 }
    }

    /// Something was sent that the peer answers.
    pub fn handle_sent(&mut self, now: Instant) {
        (self.pause, _) = self.pauses;
        if !self.suspected {
            self.next_ask = now + self.pause;
        }
        self.awaiting_since.get_or_insert(now);
    }

    /// Something arrived; `more_due` says whether the peer still owes an answer to something that was sent.
    pub fn handle_received(&mut self, more_due: bool, now: Instant) {
        (self.pause, _) = self.pauses;
        self.handle_answer(more_due, now);
    }

    /// The answer to a question arrived, and nothing else: the path is still idle.
    pub fn handle_answer(&mut self, more_due: bool, now: Instant) {
        self.next_ask = now + self.pause;
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

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        match self.awaiting_since {
            Some(since) if !self.suspected => since + Self::SUSPICION,
            _ => self.next_ask,
        }
    }

    /// Call at or after [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) -> WatchAction {
        if now < self.poll_timeout() {
            return WatchAction::Wait;
        }
        match self.awaiting_since {
            Some(_) if !self.suspected => {
                self.suspected = true;
                self.next_ask = now;
                return WatchAction::Suspect;
            }
            Some(since) => {
                let silent = now.saturating_duration_since(since);
                self.next_ask = now + (silent / Self::REPEAT_PART).max(Self::REPEAT);
            }
            None => {
                self.pause = (self.pause * 2).min(self.pauses.1);
                self.awaiting_since = Some(now);
            }
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
        let mut watch = Watch::new((Watch::PAUSE, Watch::IDLE), start);
        watch.handle_sent(start + SECOND);
        watch.handle_sent(start + SECOND * 2);
        let due = start + SECOND + Watch::SUSPICION;
        assert_eq!(watch.poll_timeout(), due, "the first unanswered counts");
        assert_eq!(watch.handle_timeout(start + Watch::SUSPICION), WatchAction::Wait);
        assert_eq!(watch.handle_timeout(due), WatchAction::Suspect);
        assert!(watch.is_suspected());
        assert!(matches!(watch.handle_timeout(due + SECOND), WatchAction::Ask(_)), "said once");
        watch.handle_received(false, due + SECOND);
        assert!(!watch.is_suspected());
    }

    #[test]
    fn suspected_peer_is_asked_again_and_again_and_less_after_long() {
        let start = Instant::now();
        let mut watch = Watch::new((Watch::PAUSE, Watch::IDLE), start);
        watch.handle_sent(start);
        let mut asked = Vec::new();
        for end in [10, 600, 1200] {
            let before = asked.len();
            while watch.poll_timeout() < start + end * SECOND {
                let now = watch.poll_timeout();
                if matches!(watch.handle_timeout(now), WatchAction::Ask(_)) {
                    asked.push(now);
                }
                watch.handle_sent(now);
            }
            println!("until {end} s: asked {} times more", asked.len() - before);
        }
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| *pause >= Watch::REPEAT), "{pauses:?}");
        assert!(pauses[..100].iter().all(|pause| *pause <= Watch::REPEAT * 2), "{:?}", &pauses[..100]);
        assert!(asked.len() < 700, "{}", asked.len());
        watch.handle_answer(false, start + 1200 * SECOND);
        assert_eq!(watch.poll_timeout(), start + 1200 * SECOND + Watch::PAUSE, "as before");
    }

    #[test]
    fn peer_that_answers_something_else_still_owes_the_rest() {
        let start = Instant::now();
        let mut watch = Watch::new((Watch::PAUSE, Watch::IDLE), start);
        watch.handle_sent(start);
        watch.handle_received(true, start + SECOND);
        assert_eq!(watch.poll_timeout(), start + SECOND + Watch::SUSPICION);
    }

    #[test]
    fn idle_path_is_asked_and_a_doubtful_one_at_once() {
        let start = Instant::now();
        let mut watch = Watch::new((Watch::PAUSE, Watch::IDLE), start);
        let (mut now, mut pauses) = (start, Vec::new());
        for asked in 1..6 {
            let due = watch.poll_timeout();
            pauses.push((due - now).as_secs());
            now = due;
            assert_eq!(watch.handle_timeout(now), WatchAction::Ask(asked));
            watch.handle_answer(false, now);
        }
        assert_eq!(pauses, [3, 6, 12, 15, 15]);
        watch.doubt(now);
        assert_eq!(watch.handle_timeout(now), WatchAction::Ask(6));
        watch.handle_received(false, now);
        assert_eq!(watch.poll_timeout(), now + Watch::PAUSE, "traffic again");
    }
}

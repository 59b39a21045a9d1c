//! Looking for an agent on several relays: how long each is asked to wait for it, and whether to go on looking.
//!
//! Relays of one cluster all know where the agent is, and then the first answer is the answer. Relays that know nothing of
//! each other are one name for the person all the same, so each is asked before the agent counts as missing.

use crate::error::ClientError;
use converge_proto::{Backoff, RelayUrls};
use std::time::Duration;
use tokio::time::Instant;

/// How long one of several relays waits for an agent before the next is asked.
pub(super) const WAIT_PER_RELAY: Duration = Duration::from_secs(5);

/// One search for an agent that may not be there yet.
pub(super) struct Search {
    relays: usize,
    wait: Duration,
    begun: Instant,
    /// Relays that have been asked, and did not have it.
    asked: usize,
    backoff: Backoff,
}

impl Search {
    /// For as long as `wait`.
    pub(super) fn new(relays: &RelayUrls, wait: Duration) -> Self {
        Self { relays: relays.count(), wait, begun: Instant::now(), asked: 0, backoff: Backoff::new() }
    }

    /// How long the next relay is to wait for the agent. As long as not all of several have been asked, it is not: the agent
    /// may be on the next one.
    pub(super) fn wait(&self) -> Duration {
        match self.relays {
            1 => self.wait,
            relays if self.asked < relays => Duration::ZERO,
            _ => self.left().min(WAIT_PER_RELAY),
        }
    }

    /// What the person is told when the next relay says that it waits: how long that is in all, if that is not what the
    /// relay says.
    pub(super) fn whole_wait(&self) -> Option<Duration> {
        (self.relays > 1).then(|| self.left())
    }

    /// Whether this is when a person is told of the wait.
    pub(super) fn is_first_wait(&self) -> bool {
        self.relays == 1 || self.asked == self.relays
    }

    /// Whether another relay is to be asked after this answer, and after which pause.
    pub(super) fn goes_on_after(&mut self, error: &ClientError) -> Option<Duration> {
        if self.relays == 1 || !is_this_relays_own(error) {
            return None;
        }
        self.asked += 1;
        if self.asked < self.relays {
            return Some(Duration::ZERO);
        }
        let pause = self.backoff.next(rand::random());
        (self.left() > pause).then_some(pause)
    }

    fn left(&self) -> Duration {
        self.wait.saturating_sub(self.begun.elapsed())
    }
}

/// Whether another relay may answer something else.
pub(super) fn is_this_relays_own(error: &ClientError) -> bool {
    match error {
        ClientError::NoSuchId { .. } | ClientError::AgentSilent | ClientError::Lost(_) => true,
        ClientError::Refused { code, .. } => code.may_pass(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge_proto::rendezvous::RefusalCode;

    fn relays(text: &str) -> RelayUrls {
        text.parse().unwrap()
    }

    fn missing() -> ClientError {
        ClientError::NoSuchId { text: String::new() }
    }

    fn refused(code: RefusalCode) -> ClientError {
        ClientError::Refused { code, text: String::new() }
    }

    const THREE: &str = "https://a,https://b,https://c";

    #[tokio::test(start_paused = true)]
    async fn one_relay_is_asked_once_for_the_whole_wait() {
        let wait = Duration::from_mins(10);
        let mut search = Search::new(&relays("https://a"), wait);
        assert_eq!((search.wait(), search.whole_wait(), search.is_first_wait()), (wait, None, true));
        assert_eq!(search.goes_on_after(&missing()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_several_is_asked_once_when_nobody_waits() {
        let mut search = Search::new(&relays(THREE), Duration::ZERO);
        for _ in 0..2 {
            assert_eq!(search.wait(), Duration::ZERO);
            assert_eq!(search.goes_on_after(&missing()), Some(Duration::ZERO));
        }
        assert_eq!(search.goes_on_after(&missing()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn several_share_the_wait_after_each_was_asked() {
        let mut search = Search::new(&relays(THREE), Duration::from_secs(12));
        let mut waits = Vec::new();
        loop {
            let wait = search.wait();
            waits.push((wait.as_secs_f32().round(), search.is_first_wait()));
            tokio::time::advance(wait).await;
            let Some(pause) = search.goes_on_after(&missing()) else { break };
            tokio::time::advance(pause).await;
        }
        let expected = [(0.0, false), (0.0, false), (0.0, false), (5.0, true), (5.0, false), (2.0, false)];
        assert_eq!(waits, expected);
    }

    #[test]
    fn what_any_relay_would_say_ends_the_search() {
        for code in
            [RefusalCode::STOPPING, RefusalCode::AGENT_LOST, RefusalCode::LIMIT, RefusalCode::INTERNAL]
        {
            assert!(is_this_relays_own(&refused(code)), "{code}");
        }
        assert!(is_this_relays_own(&missing()) && is_this_relays_own(&ClientError::AgentSilent));
        for code in [RefusalCode::UNAUTHORIZED, RefusalCode::NO_SUCH_SESSION, RefusalCode::UNSUPPORTED] {
            assert!(!is_this_relays_own(&refused(code)), "{code}");
        }
        assert!(!is_this_relays_own(&ClientError::AnotherAgent));
    }
}

//! The boards of all relays that act as one, as one list.

use super::{
    board::{Board, Snapshot},
    others::Others,
    relays::{RelayLine, SaidOfItself},
    row::{Row, Shows},
    rows::{Known, Rows},
};
use crate::directory::Directory;
use converge_proto::RelayNumber;
use std::sync::Arc;

/// Rows that one answer has; there may be more in the next.
pub(super) const ROWS_AT_ONCE: usize = 1000;

/// This relay's board, and what the others have told of theirs.
#[derive(Debug)]
pub(super) struct Whole {
    board: Board,
    /// Another number each time the relay starts.
    run: u64,
    pub(super) others: Others,
    together: Snapshot,
    /// The versions of this board and of the others that `together` was made of.
    made_of: Option<[Versions; 2]>,
}

/// What changes with anything, and with what searches find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) version: u64,
    pub(super) layout: u64,
}

/// What is around this relay.
#[derive(Debug)]
pub(super) struct Around {
    /// Its own number.
    pub(super) me: RelayNumber,
    pub(super) is_draining: bool,
    /// Whether it reaches the cluster's registry.
    pub(super) has_registry: bool,
    /// The others, and whether they are about to stop.
    pub(super) others: Vec<(RelayNumber, bool)>,
}

impl Whole {
    /// For a relay that is one of several where it has a number.
    pub(super) fn new(shows: Shows, relay: Option<RelayNumber>) -> Self {
        Self {
            board: Board::new(shows).at(relay),
            // Below 2^53, so that any reader of JSON has it whole.
            run: rand::random::<u64>() >> 11,
            others: Others::new(shows),
            together: Snapshot::empty(shows),
            made_of: None,
        }
    }

    /// Everything as it is now, as far as it is known here.
    pub(super) fn look(&mut self, directory: &Directory, around: Option<&Around>) -> Snapshot {
        let here = self.board.look(directory);
        let Some(around) = around else {
            self.together = here.clone();
            return here;
        };
        let relays = self.lines(&here, around);
        let versions = [Versions { version: here.version, layout: here.layout }, self.others.versions()];
        let before = self.made_of.replace(versions);
        if before != Some(versions) {
            let layouts = |versions: [Versions; 2]| versions.map(|versions| versions.layout);
            if before.map(layouts) != Some(layouts(versions)) {
                self.together.layout += 1;
            }
            self.together.version += 1;
            self.together.rows = Arc::new(self.rows_together(&here));
            self.together.sessions = here.sessions + self.others.sessions();
        }
        if *self.together.relays != relays {
            self.together.relays = Arc::new(relays);
            self.together.version += 1;
        }
        self.together.clone()
    }

    /// What the last look has seen.
    pub(super) fn latest(&self) -> Snapshot {
        self.together.clone()
    }

    /// What another relay is told of this one's board, which knows this much of it.
    pub(super) fn tell(&mut self, directory: &Directory, known: Known, has_registry: bool) -> Rows {
        let here = self.board.look(directory);
        let is_this_run = known.run == self.run;
        let seen = if is_this_run { known.stamp } else { 0 };
        let mut changed: Vec<_> = here.rows.iter().filter(|row| row.stamp > seen).collect();
        changed.sort_by_key(|row| row.stamp);
        let has_more = changed.len() > ROWS_AT_ONCE;
        changed.truncate(ROWS_AT_ONCE);
        let knows_order = is_this_run && known.layout == here.layout;
        let order = (!has_more && !knows_order).then(|| here.rows.iter().map(|row| row.id.to_string()));
        Rows {
            run: self.run,
            stamp: changed.last().map_or(seen, |row| row.stamp),
            layout: here.layout,
            has_more,
            order: order.map(Iterator::collect),
            changed: changed.into_iter().map(|row| row.said().clone()).collect(),
            jobs: here.rows.len(),
            sessions: here.sessions,
            has_registry,
        }
    }

    /// In the order of their IDs. An agent that has just moved may be at two relays for a moment: it is once in the list.
    fn rows_together(&self, here: &Snapshot) -> Vec<Arc<Row>> {
        let mut rows: Vec<_> = here.rows.iter().chain(self.others.rows()).cloned().collect();
        // The sort keeps the order of equals: what is here comes first.
        rows.sort_by(|one, other| one.id.cmp(&other.id));
        rows.dedup_by(|later, earlier| later.id == earlier.id);
        rows
    }

    fn lines(&self, here: &Snapshot, around: &Around) -> Vec<RelayLine> {
        let (jobs, sessions) = (here.rows.len(), here.sessions);
        let said = SaidOfItself { jobs, sessions, has_registry: around.has_registry };
        let own = RelayLine {
            number: around.me.get(),
            is_here: true,
            is_draining: around.is_draining,
            said: Some(said),
        };
        let others = around.others.iter().map(|(relay, is_draining)| RelayLine {
            number: relay.get(),
            is_here: false,
            is_draining: *is_draining,
            said: self.others.said(*relay),
        });
        let mut lines: Vec<_> = others.chain([own]).collect();
        lines.sort_by_key(|line| line.number);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{begin, enter, many};
    use super::*;
    use crate::http::pages::{HiddenField, PagesSettings};
    use converge_proto::rendezvous::AgentInfo;
    use tokio::time::{Duration, Instant};

    /// A relay with its directory.
    struct Relay {
        number: RelayNumber,
        directory: Directory,
        whole: Whole,
    }

    impl Relay {
        fn new(number: u16, settings: &PagesSettings) -> Self {
            let number = RelayNumber::new(number).unwrap();
            let whole = Whole::new(Shows::new(settings), Some(number));
            Self { number, directory: Directory::default(), whole }
        }

        /// Asks until it has all. Returns how many answers that took, and how many rows were in them.
        fn ask(&mut self, other: &mut Self) -> (usize, usize) {
            let (mut answers, mut rows) = (0, 0);
            loop {
                let known = self.whole.others.known(other.number);
                let told = other.whole.tell(&other.directory, known, true);
                // As it goes over the link.
                let told: Rows = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
                answers += 1;
                rows += told.changed.len();
                if !self.whole.others.hear(other.number, told, Instant::now()) {
                    return (answers, rows);
                }
            }
        }

        fn look(&mut self, others: &[u16]) -> Snapshot {
            let others = others.iter().map(|number| (RelayNumber::new(*number).unwrap(), false)).collect();
            let around = Around { me: self.number, is_draining: false, has_registry: true, others };
            self.whole.look(&self.directory, Some(&around))
        }
    }

    fn two() -> [Relay; 2] {
        [1, 2].map(|number| Relay::new(number, &PagesSettings::default()))
    }

    fn ids(snapshot: &Snapshot) -> Vec<String> {
        snapshot.rows.iter().map(|row| row.id.to_string()).collect()
    }

    #[tokio::test]
    async fn rows_of_two_relays_are_one_list_and_only_news_are_told() {
        let [mut here, mut there] = two();
        let _near = enter(&here.directory, 1, "b", AgentInfo::default());
        let far = ["a", "c", "d"].map(|id| enter(&there.directory, 2, id, AgentInfo::default()));
        assert_eq!(ids(&here.look(&[2])), ["b"]);
        assert_eq!(here.ask(&mut there), (1, 3));
        let first = here.look(&[2]);
        assert_eq!(ids(&first), ["a", "b", "c", "d"]);
        assert!(first.rows[0].html(first.shows, 0).contains("relay 2"));
        let words: Vec<_> = first.relays.iter().map(|line| line.words(&first.shows)).collect();
        assert_eq!(words, ["Relay 1 (this one): 1 job, 0 sessions", "Relay 2: 3 jobs, 0 sessions"]);

        assert_eq!(here.ask(&mut there), (1, 0));
        let same = here.look(&[2]);
        assert_eq!((same.version, same.layout), (first.version, first.layout));
        let session = begin(&there.directory, 1, "c");
        assert_eq!(here.ask(&mut there), (1, 1));
        let used = here.look(&[2]);
        assert!(used.rows[2].is_used() && used.sessions == 1 && used.version > first.version);
        drop((session, far));
        here.ask(&mut there);
        let left = here.look(&[2]);
        assert!(ids(&left) == ["b"] && left.layout > first.layout, "{left:?}");
    }

    #[tokio::test]
    async fn many_rows_come_in_parts_and_a_relay_that_starts_anew_is_read_anew() {
        let [mut here, mut there] = two();
        let agents = many(&there.directory, 2500);
        assert_eq!(here.ask(&mut there), (3, 2500));
        assert_eq!(here.look(&[2]).rows.len(), 2500);
        drop(agents);
        let mut again = Relay::new(2, &PagesSettings::default());
        let _new = enter(&again.directory, 1, "new", AgentInfo::default());
        assert_eq!(here.ask(&mut again), (1, 1));
        assert_eq!(ids(&here.look(&[2])), ["new"]);
    }

    #[tokio::test]
    async fn an_agent_that_moves_is_there_once() {
        let [mut here, mut there] = two();
        let _before = enter(&there.directory, 2, "a", AgentInfo::default());
        here.ask(&mut there);
        let _after = enter(&here.directory, 1, "a", AgentInfo::default());
        let both = here.look(&[2]);
        assert!(ids(&both) == ["a"] && both.rows[0].html(both.shows, 0).contains("relay 1"));
    }

    #[tokio::test]
    async fn what_either_relay_hides_is_not_shown() {
        let mut hides_bytes = PagesSettings::default();
        hides_bytes.hidden.insert(HiddenField::Bytes);
        let mut hides_all = PagesSettings::default();
        hides_all.hidden.extend(HiddenField::ALL);
        let shows_addresses = PagesSettings { shows_addresses: true, ..PagesSettings::default() };
        for (at, from, has_host, has_bytes) in [
            (&PagesSettings::default(), &shows_addresses, true, true),
            (&shows_addresses, &hides_bytes, true, false),
            (&hides_bytes, &shows_addresses, true, false),
            (&hides_all, &shows_addresses, false, false),
            (&shows_addresses, &hides_all, false, false),
        ] {
            let (mut here, mut there) = (Relay::new(1, at), Relay::new(2, from));
            let _agents = many(&there.directory, 1);
            let _session = begin(&there.directory, 1, "a00000");
            here.ask(&mut there);
            let snapshot = here.look(&[2]);
            let html = snapshot.rows[0].html(snapshot.shows, 0);
            assert_eq!((html.contains("runner-0"), html.contains("0 B in")), (has_host, has_bytes), "{html}");
            assert!(!html.contains("192.0.2.1"), "{html}");
            // A cell for each head.
            assert_eq!(html.contains("data-label=\"Bytes\""), snapshot.shows.bytes(), "{html}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_a_silent_relay_stay_for_a_while() {
        let [mut here, mut there] = two();
        let _far = enter(&there.directory, 2, "far", AgentInfo::default());
        here.ask(&mut there);
        here.whole.others.miss(there.number, Instant::now());
        let silent = here.look(&[2]);
        assert_eq!((ids(&silent), silent.relays[1].state()), (vec!["far".to_owned()], "away"));
        tokio::time::advance(Duration::from_secs(11)).await;
        here.whole.others.miss(there.number, Instant::now());
        let gone = here.look(&[2]);
        assert!(gone.rows.is_empty() && gone.version > silent.version);
        assert_eq!(here.ask(&mut there), (1, 1), "it is told everything again");
        assert_eq!(here.look(&[2]).relays[1].state(), "up");
        here.whole.others.keep(&[]);
        assert_eq!((here.look(&[]).rows.len(), here.look(&[]).relays.len()), (0, 1));
    }
}

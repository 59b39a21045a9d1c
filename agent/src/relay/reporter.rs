//! What the relay is told of the agent's life, so that its operator and its pages can show it.

use crate::life::{Life, Snapshot, notice::Notice};
use converge_proto::{
    expiry::Clock,
    rendezvous::{
        ExpiryWarning, Status,
        messages::{Line, Name},
    },
};
use std::time::Duration;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

/// Between two reports. A person who types moves the clocks with every key.
const PAUSE: Duration = Duration::from_secs(2);
/// A clock that runs out so much earlier or later than the relay was told is worth another report.
const WORTH_TELLING: Duration = Duration::from_secs(5);

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    Status(Status),
    Warning(ExpiryWarning),
}

/// Finds out what there is to tell one relay; each link begins with a new one.
pub(super) struct Reporter {
    snapshots: watch::Receiver<Snapshot>,
    notices: broadcast::Receiver<Notice>,
    told: Option<Told>,
    /// Not before then.
    next: Instant,
}

/// How things were when the relay was last told.
#[derive(Clone, Copy)]
struct Told {
    users: usize,
    is_held: bool,
    deadline: Option<(Clock, Instant)>,
}

impl Reporter {
    pub(super) fn new(life: &Life) -> Self {
        let mut snapshots = life.snapshots();
        snapshots.mark_changed();
        Self { snapshots, notices: life.notices(), told: None, next: Instant::now() }
    }

    /// The next report. Cancel-safe.
    pub(super) async fn next(&mut self) -> Report {
        loop {
            let (next, snapshots) = (self.next, &mut self.snapshots);
            let changed = async {
                tokio::time::sleep_until(next).await;
                if snapshots.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Ok(notice) => if let Some(remaining) = notice.remaining {
                        return Report::Warning(ExpiryWarning {
                            remaining_ms: milliseconds(remaining),
                            reason: Line::new(notice.text),
                        });
                    },
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    // The agent has ended.
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                },
                () = changed => if let Some(status) = self.look() {
                    return Report::Status(status);
                },
            }
        }
    }

    /// How things are, when that is worth telling.
    fn look(&mut self) -> Option<Status> {
        let snapshot = self.snapshots.borrow_and_update();
        let now =
            Told { users: snapshot.users.len(), is_held: snapshot.is_held, deadline: snapshot.deadline };
        drop(snapshot);
        if self.told.is_some_and(|told| !now.differs_from(told)) {
            return None;
        }
        self.told = Some(now);
        self.next = Instant::now() + PAUSE;
        Some(now.status())
    }
}

impl Told {
    fn differs_from(self, told: Self) -> bool {
        let moved = match (self.deadline, told.deadline) {
            (None, None) => false,
            (Some((clock, at)), Some((told_clock, told_at))) => {
                let moved = at.saturating_duration_since(told_at) + told_at.saturating_duration_since(at);
                clock != told_clock || moved >= WORTH_TELLING
            }
            _ => true,
        };
        moved || (self.users, self.is_held) != (told.users, told.is_held)
    }

    fn status(self) -> Status {
        Status {
            users: u32::try_from(self.users).unwrap_or(u32::MAX),
            held: self.is_held,
            expires_ms: self
                .deadline
                .map(|(_, at)| milliseconds(at.saturating_duration_since(Instant::now()))),
            clock: self.deadline.map(|(clock, _)| Name::new(clock.name())),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::Events,
        life::{LifeConfig, activity::Activity, life},
        users::user::User,
    };
    use converge_proto::expiry::ExpiryLimits;
    use tokio_util::task::AbortOnDropHandle;

    fn user() -> User {
        User { login: "x".into(), key: "SHA256:abc".into(), comment: String::new(), source: String::new() }
    }

    fn a_life(dir: &tempfile::TempDir) -> (Life, AbortOnDropHandle<crate::life::EndReason>) {
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        let limits = ExpiryLimits {
            first: minutes(30),
            idle: minutes(10),
            lifetime: None,
            warn: vec![Duration::from_mins(1)],
        };
        let (life, task) = life(LifeConfig {
            limits,
            hold_file: dir.path().join(".hold"),
            activity: Activity::new(),
            events: Events::unread(),
        });
        (life, AbortOnDropHandle::new(tokio::spawn(task.run())))
    }

    #[tokio::test(start_paused = true)]
    async fn relay_is_told_of_logins_clocks_and_warnings() {
        let dir = tempfile::tempdir().unwrap();
        let (life, _living) = a_life(&dir);
        let mut reporter = Reporter::new(&life);
        let mut clocks = Vec::new();
        let _presence = loop {
            let Report::Status(status) = reporter.next().await else { continue };
            clocks.push(status.clock.as_ref().map(ToString::to_string));
            if status.clock.is_some() {
                assert_eq!(status.users, 0);
                break life.join("1", user());
            }
        };
        assert_eq!(clocks.last().unwrap().as_deref(), Some("first"));
        loop {
            match reporter.next().await {
                Report::Status(status) if status.users == 1 => break,
                other => assert!(matches!(other, Report::Status(_)), "{other:?}"),
            }
        }
        // Time goes on by itself until the warning is due.
        let warning = reporter.next().await;
        assert!(
            matches!(&warning, Report::Warning(warning) if warning.remaining_ms == 60_000),
            "{warning:?}"
        );
    }

    #[test]
    fn clock_that_moves_a_little_is_not_worth_a_word() {
        let now = Instant::now();
        let told = Told { users: 1, is_held: false, deadline: Some((Clock::Idle, now)) };
        let moved =
            |seconds| Told { deadline: Some((Clock::Idle, now + Duration::from_secs(seconds))), ..told };
        assert!(!moved(4).differs_from(told));
        assert!(moved(5).differs_from(told) && told.differs_from(moved(5)));
        assert!(Told { users: 2, ..told }.differs_from(told));
        assert!(Told { deadline: None, ..told }.differs_from(told));
    }
}

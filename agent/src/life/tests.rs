use super::*;
use converge_proto::session::Severity;
use std::fs;
use tempfile::TempDir;
use tokio::{sync::mpsc::Receiver, task::JoinHandle};

const MINUTE: Duration = Duration::from_mins(1);

struct Fixture {
    life: Life,
    task: JoinHandle<EndReason>,
    activity: Activity,
    notices: broadcast::Receiver<Notice>,
    events: Receiver<crate::events::TimedEvent>,
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(ExpiryLimits {
            first: Some(30 * MINUTE),
            idle: Some(10 * MINUTE),
            lifetime: Some(360 * MINUTE),
            warn: vec![5 * MINUTE, MINUTE],
        })
    }

    fn with(limits: ExpiryLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (events, received) = Events::channel();
        let activity = Activity::new();
        let hold_file = directory.path().join(".hold");
        let (life, task) = life(LifeConfig { limits, hold_file, activity: activity.clone(), events });
        let notices = life.notices();
        Self { life, task: tokio::spawn(task.run()), activity, notices, events: received, directory }
    }

    async fn ends(self) -> EndReason {
        self.task.await.unwrap()
    }

    async fn told(&mut self) -> String {
        self.notices.recv().await.unwrap().text
    }
}

fn user(comment: &str) -> User {
    User { login: "x".into(), key: "SHA256:abc".into(), comment: comment.into(), source: String::new() }
}

#[tokio::test(start_paused = true)]
async fn nobody_came() {
    let fixture = Fixture::new();
    let begun = Instant::now();
    let (life, mut notices, mut events) = (fixture.life.clone(), fixture.life.notices(), fixture.events);
    let reason = fixture.task.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30 * 60);
    assert_eq!(reason, EndReason::Clock(Clock::First, 30 * MINUTE));
    assert_eq!(life.farewell(), "the agent ends: nobody logged in for 30m");
    let notice = notices.recv().await.unwrap();
    assert_eq!((notice.severity, notice.remaining), (Severity::Warning, Some(5 * MINUTE)));
    assert!(notice.text.contains("ends in 5m"), "{}", notice.text);
    assert!(notices.recv().await.unwrap().text.contains("ends in 1m"));
    let Some(crate::events::Event::Warning { remaining_seconds, .. }) = events.recv().await.map(|e| e.event)
    else {
        panic!("a warning is an event");
    };
    assert_eq!(remaining_seconds, 300);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_out_ends_it() {
    let mut fixture = Fixture::new();
    let first = fixture.life.join("1", user("kim"));
    let second = fixture.life.join("2", user("lee"));
    assert_eq!(fixture.told().await, "kim joined; 1 here now");
    assert_eq!(fixture.told().await, "lee joined; 2 here now");
    drop(first);
    let notice = fixture.notices.recv().await.unwrap();
    assert_eq!(notice.text, "kim left; 1 here now");
    assert!(!notice.is_for("1") && notice.is_for("2"));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(fixture.life.snapshot().users.len(), 1);
    drop(second);
    assert_eq!(fixture.ends().await, EndReason::LastLogout);
}

#[tokio::test(start_paused = true)]
async fn a_key_after_a_warning_keeps_it_and_users_hear_so() {
    let mut fixture = Fixture::new();
    let _presence = fixture.life.join("1", user("kim"));
    assert!(fixture.told().await.contains("joined"));
    let begun = Instant::now();
    assert!(fixture.told().await.contains("press a key"));
    assert_eq!(begun.elapsed().as_secs(), 300);
    fixture.activity.touch();
    assert_eq!(
        fixture.told().await,
        "the job stays open; it ends in 10m at the earliest (nobody does anything)"
    );
    let life = fixture.life.clone();
    assert_eq!(fixture.ends().await, EndReason::Clock(Clock::Idle, 10 * MINUTE));
    assert_eq!(begun.elapsed().as_secs(), 900);
    assert_eq!(life.farewell(), "the agent ends: nobody did anything for 10m");
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlasts_the_last_user_and_its_time_counts() {
    let fixture = Fixture::new();
    let presence = fixture.life.join("1", user("kim"));
    let held = fixture.life.hold(Some(60 * MINUTE)).await.unwrap();
    assert!(held.is_held);
    drop(presence);
    let begun = Instant::now();
    let (life, directory) = (fixture.life.clone(), fixture.directory.path().join(".hold"));
    assert!(directory.exists());
    assert_eq!(fixture.task.await.unwrap(), EndReason::Clock(Clock::Idle, 10 * MINUTE));
    let minutes = begun.elapsed().as_secs() / 60;
    assert!((69..=70).contains(&minutes), "{minutes}");
    assert!(life.snapshot().is_held);
}

#[tokio::test(start_paused = true)]
async fn a_released_agent_without_users_ends() {
    let fixture = Fixture::new();
    let presence = fixture.life.join("1", user("kim"));
    fs::write(fixture.directory.path().join(".hold"), "").unwrap();
    let mut snapshots = fixture.life.snapshots.subscribe();
    snapshots.wait_for(|snapshot| snapshot.is_held).await.unwrap();
    drop(presence);
    snapshots.wait_for(|snapshot| snapshot.users.is_empty()).await.unwrap();
    assert!(!fixture.task.is_finished());
    assert!(!fixture.life.release().await.unwrap().is_held);
    assert_eq!(fixture.ends().await, EndReason::LastLogout);
}

#[tokio::test(start_paused = true)]
async fn more_time_is_told_with_who_asked_for_it() {
    let mut fixture = Fixture::new();
    let _presence = fixture.life.join("1", user("kim"));
    assert!(fixture.told().await.contains("joined"));
    let snapshot = fixture.life.extend(60 * MINUTE, Some("kim".to_owned())).await;
    let (clock, at) = snapshot.deadline.unwrap();
    assert_eq!((clock, at - Instant::now()), (Clock::Idle, 60 * MINUTE));
    assert!(fixture.told().await.starts_with("kim: more time; it ends in 1h "));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_tells_users_before_it_ends() {
    let mut fixture = Fixture::new();
    let _presence = fixture.life.join("1", user("kim"));
    assert!(fixture.told().await.contains("joined"));
    fixture.life.end(EndReason::Signal(15));
    assert!(fixture.told().await.contains("this job was cancelled"));
    fixture.life.end(EndReason::Resume);
    let life = fixture.life.clone();
    assert_eq!(fixture.ends().await, EndReason::Signal(15));
    assert_eq!(life.farewell(), "the agent ends: the job was cancelled");
}

#[test]
fn times_are_short() {
    let short = |seconds| Short(Duration::from_millis(seconds)).to_string();
    assert_eq!(short(299_700), "5m");
    assert_eq!(short(59_400), "59s");
    assert_eq!(short(3_600_000 + 29_000), "1h");
    assert_eq!(short(90_000), "1m 30s");
}

//! Hooks and the event log, from the events to real shells and files.

mod common;

use common::{PATIENCE, example::example, is_running, run, until};
use converge_agent::{
    events::dispatch::dispatch,
    events::hooks::{HookCommands, Hooks},
    events::log::{EventLog, EventLogTarget},
    events::{Event, Events},
    users::user::User,
};
use serde_json::Value;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command, task::JoinHandle, time::timeout};

fn user() -> User {
    let (login, key) = ("kim".to_owned(), "SHA256:0123456789".to_owned());
    User { login, key, comment: "Kim \u{1b}[2J".into(), source: "keys:1".into() }
}

fn login() -> Event {
    Event::Login { session: "7".into(), user: user() }
}

fn logout(reason: &str) -> Event {
    Event::SessionFinished { session: "7".into(), user: Some(user()), seconds: 1.5, reason: reason.into() }
}

fn warning() -> Event {
    Event::Warning { reason: "idle".into(), remaining_seconds: 60 }
}

fn exit() -> Event {
    Event::AgentFinished { reason: "the last user left".into(), status: 3 }
}

/// Hooks that run in a folder of their own, and what emits to them.
struct Hooked {
    folder: TempDir,
    events: Events,
    dispatching: JoinHandle<()>,
}

impl Hooked {
    fn start(commands: HookCommands) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (events, receiver) = Events::channel();
        let hooks = Hooks::new(commands, folder.path().to_owned());
        Self { folder, events, dispatching: tokio::spawn(dispatch(receiver, None, hooks)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The process numbers that a hook has written to the file `pids`: its shell's and another one's.
    async fn pids(&self) -> Vec<String> {
        let pids = || self.text("pids").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        until("the hook runs", || self.text("pids").ends_with('\n')).await;
        pids()
    }

    /// No more events; waits until all is done.
    async fn end(self) -> TempDir {
        drop(self.events);
        timeout(PATIENCE, self.dispatching).await.expect("hooks end").expect("no panic");
        self.folder
    }
}

fn read(folder: &TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).expect("the hook has written it")
}

#[tokio::test]
async fn hooks_run_one_after_the_other_in_order() {
    // The first takes its time: others that did not wait for it would write first.
    let hooked = Hooked::start(HookCommands {
        login: Some("echo begin-$CONVERGE_EVENT >> log; sleep 0.2; echo end-$CONVERGE_EVENT >> log".into()),
        logout: Some("echo $CONVERGE_EVENT >> log".into()),
        warning: Some("echo $CONVERGE_EVENT >> log; exit 9".into()),
        exit: Some("echo $CONVERGE_EVENT >> log".into()),
    });
    for event in [login(), warning(), logout("end"), login(), exit()] {
        hooked.events.emit(event);
    }
    let folder = hooked.end().await;
    let expected = "begin-login end-login warning session_finished begin-login end-login agent_finished"
        .replace(' ', "\n");
    assert_eq!(read(&folder, "log").trim(), expected);
}

#[tokio::test]
async fn hooks_are_told_what_happened() {
    let say = "env | grep ^CONVERGE_ | LC_ALL=C sort > $CONVERGE_EVENT.env; cat > $CONVERGE_EVENT.json";
    let hooked = Hooked::start(HookCommands {
        login: Some(say.into()),
        logout: Some(say.into()),
        warning: Some(say.into()),
        exit: Some(say.into()),
    });
    // Somebody who never logged in does not log out.
    hooked.events.emit(Event::SessionFinished {
        session: "6".into(),
        user: None,
        seconds: 0.0,
        reason: "nobody".into(),
    });
    let reason = format!("a\u{1b}b{}", "x".repeat(300_000));
    for event in [login(), logout(&reason), warning(), exit()] {
        hooked.events.emit(event);
    }
    let folder = hooked.end().await;
    let shown_user = "CONVERGE_USER=kim (key …23456789)\n";
    for (kind, variables) in [
        ("login", format!("CONVERGE_KEY=SHA256:0123456789\nCONVERGE_SESSION=7\n{shown_user}")),
        ("warning", "CONVERGE_REASON=idle\nCONVERGE_REMAINING_SECONDS=60\n".to_owned()),
        ("agent_finished", "CONVERGE_REASON=the last user left\nCONVERGE_STATUS=3\n".to_owned()),
    ] {
        assert!(read(&folder, &format!("{kind}.env")).ends_with(&variables), "{kind}");
        let line = read(&folder, &format!("{kind}.json"));
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["event"], kind);
    }
    let variables = read(&folder, "session_finished.env");
    assert!(variables.contains("CONVERGE_SESSION=7\n") && variables.contains(shown_user), "{variables}");
    assert!(
        variables.contains("CONVERGE_REASON=a\u{fffd}bxxx") && variables.contains("CONVERGE_SECONDS=1.500\n")
    );
    assert!(variables.len() < 10_000, "{}", variables.len());
    let line: Value = serde_json::from_str(&read(&folder, "session_finished.json")).expect("JSON");
    assert_eq!((&line["reason"], &line["user"]["login"]), (&reason.into(), &"kim".into()));
}

#[tokio::test]
async fn hook_that_reads_nothing_does_not_wait_for_its_input() {
    let hooked =
        Hooked::start(HookCommands { logout: Some("echo done >> log".into()), ..HookCommands::default() });
    for _ in 0..3 {
        hooked.events.emit(logout(&"x".repeat(1_000_000)));
    }
    assert_eq!(read(&hooked.end().await, "log"), "done\ndone\ndone\n");
}

/// A hook that never ends, with a child that nothing but SIGKILL ends.
const HANGS: &str = "trap '' TERM HUP INT; sleep 1000 & echo $$ $! > pids; wait";

#[tokio::test]
async fn hook_that_takes_too_long_is_killed_with_its_group_and_the_next_one_runs() {
    let commands = HookCommands {
        login: Some(HANGS.into()),
        warning: Some("echo next > log".into()),
        ..HookCommands::default()
    };
    let hooked = Hooked::start(commands);
    hooked.events.emit(login());
    hooked.events.emit(warning());
    let pids = hooked.pids().await;
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{pids:?}");
    assert_eq!(hooked.text("log"), "");
    skip(31).await;
    until("both are gone", || !pids.iter().any(|pid| is_running(pid))).await;
    assert_eq!(read(&hooked.end().await, "log"), "next\n");
}

#[tokio::test]
async fn hooks_do_not_hold_up_the_end_for_long() {
    let hooked = Hooked::start(HookCommands {
        login: Some(HANGS.into()),
        warning: Some("echo warning >> log".into()),
        exit: Some("echo exit >> log".into()),
        ..HookCommands::default()
    });
    hooked.events.emit(login());
    hooked.events.emit(warning());
    let pids = hooked.pids().await;
    hooked.events.emit(exit());
    skip(11).await;
    let folder = hooked.end().await;
    assert_eq!(read(&folder, "log"), "exit\n", "what waited is dropped");
    until("both are gone", || !pids.iter().any(|pid| is_running(pid))).await;
}

#[tokio::test]
async fn hook_for_the_end_is_waited_for_but_not_for_long() {
    let hooked = Hooked::start(HookCommands { exit: Some(HANGS.into()), ..HookCommands::default() });
    hooked.events.emit(exit());
    let pids = hooked.pids().await;
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{pids:?}");
    skip(11).await;
    hooked.end().await;
    until("both are gone", || !pids.iter().any(|pid| is_running(pid))).await;
}

/// Moves the clock, after everybody has looked at what happened so far. The runtime has one thread and is fair.
async fn skip(seconds: u64) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn event_log_is_appended_to_a_private_file() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("log");
    for _ in 0..2 {
        let log = EventLog::open(EventLogTarget::File(path.clone())).await.expect("a log");
        let (events, receiver) = Events::channel();
        let hooks = Hooks::new(HookCommands::default(), folder.path().to_owned());
        let dispatching = tokio::spawn(dispatch(receiver, Some(log), hooks));
        events.emit(login());
        until("the line is there while the agent runs", || {
            lines(&path).last().is_some_and(|e| e["event"] == "login")
        })
        .await;
        events.emit(logout("a\nb\u{1b}\""));
        events.emit(exit());
        timeout(PATIENCE, dispatching).await.expect("it ends with the agent").expect("no panic");
    }
    let lines = lines(&path);
    let kinds: Vec<_> = lines.iter().map(|line| line["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["login", "session_finished", "agent_finished"].repeat(2));
    assert_eq!(lines[1]["reason"], "a\nb\u{1b}\"");
    assert_eq!(lines[1]["user"]["key"], "SHA256:0123456789");
    for line in &lines {
        let time = line["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
    let mode = std::fs::metadata(&path).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The whole lines in an event log.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The program that does what this option says with the events on its stdin.
async fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(example("dispatch_events").await);
    command.args(arguments).kill_on_drop(true);
    command
}

#[tokio::test]
async fn log_that_cannot_be_written_is_told_once() {
    let output = run(program(&["--event-log", "/dev/full"]).await, b"login\nwarning\nlogout\nexit\n").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("the event log cannot be written").count(), 1, "{said}");
    assert!(output.status.success() && said.contains("all was told"), "{said}");

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = program(&["--event-log", "-"]).await;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    drop(command);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"login\nwarning\nexit\n").await.expect("it reads");
    drop(stdin);
    let output =
        timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("it was waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("the event log cannot be written").count(), 1, "{said}");
    assert!(output.status.success() && said.contains("all was told"), "{said}");
}

#[tokio::test]
async fn log_on_stdout_has_nothing_but_lines_of_json() {
    let mut command = program(&["--event-log", "-", "--on-warning", "echo said; exit 4"]).await;
    command
        .env("CONVERGE_ON_LOGIN", "env; echo to stdout; echo to stderr >&2")
        .env("CONVERGE_TOKEN", "secret-1")
        .env("CONVERGE_PROXY", "http://kim:secret-2@proxy:1");
    let output = run(command, b"started\nlogin\nwarning\nexit\n").await;
    let stdout = String::from_utf8(output.stdout).expect("text");
    let kinds: Vec<_> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone())
        .collect();
    assert_eq!(kinds, ["session_started", "login", "warning", "agent_finished"]);
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in ["\nto stdout\n", "\nto stderr\n", "\nPATH=", "\nCONVERGE_USER=kim@laptop\n", "said\n"] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert!(!said.contains("secret-"), "{said}");
    let failed = said.lines().find(|line| line.contains("the hook failed")).expect("a warning");
    assert!(failed.contains("WARN") && failed.contains("--on-warning") && failed.contains('4'), "{failed}");
    assert_eq!(said.matches("the hook failed").count(), 1, "{said}");
}

#[tokio::test]
async fn log_that_cannot_be_opened_is_told_before_anything_starts() {
    let output = run(program(&["--event-log", "/no/such/folder/log"]).await, b"").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("cannot open the event log /no/such/folder/log; see --event-log"), "{said}");

    // A pipe that nobody reads is not waited for.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.expect("mkfifo is installed").success());
    let output = run(program(&["--event-log", pipe.to_str().expect("UTF-8")]).await, b"").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot open the event log"), "{said}");
}

//! Steps of a job, run by a program of their own: status, output, signals with and without a terminal.

mod common;

use common::{
    PATIENCE, assert_same_bytes, example::example, is_running, noise, run, terminal::Terminal, until,
};
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A folder for one test, in which steps run.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn report_file(&self) -> PathBuf {
        self.0.path().join("report.json")
    }

    /// The program that runs `argv` as a step.
    async fn step(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(example("run_step").await);
        command.arg(self.report_file()).args(argv).current_dir(self.0.path()).kill_on_drop(true);
        // Whoever runs the tests may have files that are read by every shell.
        command.env_remove("BASH_ENV").env_remove("ENV");
        command
    }

    /// What the program says about the end of the step.
    fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.report_file()).expect("the step has ended");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// A running step that says what happens to it, line by line.
struct Talking {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talking {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program is built");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("the step says something");
        line.expect("text").expect("the step runs")
    }

    /// Signals the program, not the step.
    async fn signal(&self, name: &str) {
        signal(self.child.id().expect("it runs"), name).await;
    }

    async fn status(mut self) -> Option<i32> {
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("the program ends");
        ended.expect("it was waited for").code()
    }
}

async fn signal(pid: impl ToString, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().await;
    assert!(sent.expect("kill is installed").success());
}

#[tokio::test]
async fn status_is_the_one_a_shell_reports() {
    let folder = Folder::new();
    for (script, status, signal) in
        [("exit 0", 0, None), ("exit 7", 7, None), ("exit 255", 255, None), ("kill -KILL $$", 137, Some(9))]
    {
        let output = run(folder.step(&["sh", "-c", script]).await, b"").await;
        assert_eq!(output.status.code(), Some(status), "{script}");
        let report = folder.report();
        assert_eq!((report["exit_code"].as_i64(), report["signal"].as_i64()), (Some(status.into()), signal));
        assert_eq!(report["opens_on_failure"], status != 0);
        assert!(report["stop_signal"].is_null(), "{report}");
        assert_eq!(report["working_dir"], folder.0.path().to_str().expect("UTF-8"));
    }
    assert_eq!(folder.report()["command"], "sh -c 'kill -KILL $$'");
}

#[tokio::test]
async fn what_cannot_be_run_is_told_as_shells_do() {
    let folder = Folder::new();
    let file = |name: &str, mode| {
        let path = folder.0.path().join(name);
        std::fs::write(&path, "no first line\n").expect("the file can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    file("plain", 0o644);
    file("text", 0o755);
    for (program, status, words) in [
        ("no-such-command-here", 127, "no-such-command-here: command not found"),
        ("./missing", 127, "./missing: no such file"),
        ("./plain/under", 127, "./plain/under: not a directory"),
        ("./plain", 126, "./plain: permission denied"),
        ("/", 126, "/: permission denied"),
        ("./text", 126, "./text: not a program: "),
    ] {
        let output = run(folder.step(&[program]).await, b"").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.starts_with(&format!("converge-agent: {words}")) && said.ends_with('\n'), "{said}");
        assert_eq!((folder.report()["exit_code"].as_i64(), output.stdout.len()), (Some(status.into()), 0));
    }
}

#[tokio::test]
async fn output_is_unchanged_and_comes_at_once() {
    let folder = Folder::new();
    let (out, err) = (noise(3_000_000), noise(2_000_001));
    std::fs::write(folder.0.path().join("out"), &out).expect("the file can be written");
    std::fs::write(folder.0.path().join("err"), &err).expect("the file can be written");
    let output = run(folder.step(&["sh", "-c", "cat out & cat err >&2; wait"]).await, b"").await;
    assert_same_bytes(&output.stdout, &out);
    assert_same_bytes(&output.stderr, &err);

    let mut step = folder.step(&["sh", "-c", "printf half; read line; echo ly-$line"]).await;
    let mut step = step.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program is built");
    let (mut stdin, mut stdout) = (step.stdin.take().expect("piped"), step.stdout.take().expect("piped"));
    let mut half = [0; 4];
    timeout(PATIENCE, stdout.read_exact(&mut half))
        .await
        .expect("it comes while the step runs")
        .expect("4 bytes");
    assert_eq!(&half, b"half");
    stdin.write_all(b"word\n").await.expect("the step reads");
    let mut rest = String::new();
    timeout(PATIENCE, stdout.read_to_string(&mut rest)).await.expect("the step ends").expect("text");
    assert_eq!(rest, "ly-word\n");
}

/// Says which signals it gets; SIGTERM ends it with status 5. It has no child while it waits: bash forgets a SIGINT
/// that comes while its child is just ending by itself.
const SAYS_SIGNALS: &str = r#"
    for name in HUP INT QUIT USR1 USR2; do trap "echo $name" $name; done
    trap 'echo TERM; exit 5' TERM
    mkfifo pipe; exec 3<>pipe
    echo begun; while :; do read -t 0.05 -u 3; done
"#;

#[tokio::test]
async fn without_a_terminal_signals_reach_the_step() {
    let folder = Folder::new();
    let mut step = Talking::start(folder.step(&["bash", "-c", SAYS_SIGNALS]).await);
    assert_eq!(step.line().await, "begun");
    for name in ["HUP", "QUIT", "USR1", "USR2", "INT", "TERM"] {
        step.signal(name).await;
        assert_eq!(step.line().await, name);
    }
    assert_eq!(step.status().await, Some(5));
    let report = folder.report();
    assert_eq!(report["stop_signal"], 2, "the first that said so: {report}");
    assert_eq!(report["opens_on_failure"], false);
}

#[tokio::test]
async fn without_a_terminal_signals_reach_the_whole_group() {
    let folder = Folder::new();
    let script = r#"
        trap 'wait; echo parent; exit 6' TERM
        bash -c 'trap "echo child; exit" TERM; echo begun; while :; do sleep 0.05; done' &
        wait
    "#;
    let mut step = Talking::start(folder.step(&["bash", "-c", script]).await);
    assert_eq!(step.line().await, "begun");
    step.signal("TERM").await;
    assert_eq!([step.line().await, step.line().await], ["child", "parent"]);
    assert_eq!(step.status().await, Some(6));
}

#[tokio::test]
async fn without_a_terminal_a_step_can_be_stopped_and_continued() {
    let folder = Folder::new();
    let mut step = Talking::start(folder.step(&["sh", "-c", "echo $$; exec sleep 1000"]).await);
    let pid = step.line().await;
    step.signal("TSTP").await;
    until("the step is stopped", || state(&pid) == Some('T')).await;
    step.signal("CONT").await;
    until("the step runs again", || state(&pid) == Some('S')).await;
    step.signal("TERM").await;
    assert_eq!(step.status().await, Some(143));
    let report = folder.report();
    assert_eq!((report["signal"].as_i64(), report["stop_signal"].as_i64()), (Some(15), Some(15)));
}

#[tokio::test]
async fn step_of_a_program_in_the_background_hears_ctrl_c() {
    let folder = Folder::new();
    // A shell without job control starts what is behind `&` with SIGINT and SIGQUIT ignored.
    let mut script = Command::new("sh");
    script.args(["-c", "\"$@\" & wait $!", "sh"]).arg(example("run_step").await).arg(folder.report_file());
    script.args(["bash", "-c", &format!("echo $PPID; {SAYS_SIGNALS}")]).current_dir(folder.0.path());
    let mut step = Talking::start(script);
    let program = step.line().await;
    assert_eq!(step.line().await, "begun");
    for name in ["INT", "QUIT", "TERM"] {
        signal(&program, name).await;
        assert_eq!(step.line().await, name);
    }
    assert_eq!(step.status().await, Some(5));
}

#[tokio::test]
async fn what_a_step_leaves_in_the_background_is_left_alone() {
    let folder = Folder::new();
    let step = folder.step(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).await;
    let output = run(step, b"").await;
    let pid = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert_eq!(output.status.code(), Some(0));
    let is_left = is_running(&pid);
    signal(&pid, "KILL").await;
    assert!(is_left);
}

#[tokio::test]
async fn with_a_terminal_each_signal_comes_once() {
    let folder = Folder::new();
    let script = format!("echo program-$PPID-; {SAYS_SIGNALS}");
    let mut terminal = Terminal::open(folder.step(&["bash", "-c", &script]).await, 24, 80);
    terminal.expect("program-").await;
    let program = terminal.expect("-").await.trim_end_matches('-').to_owned();
    terminal.expect("begun").await;
    for _ in 0..3 {
        terminal.type_text("\x03").await;
        terminal.expect("INT\r\n").await;
        // Signals are passed on in the order in which they came: a second one would come before this one.
        signal(&program, "USR1").await;
        assert!(!terminal.expect("USR1").await.contains("INT"));
    }
    terminal.type_text("\x1c").await;
    terminal.expect("QUIT\r\n").await;
    for name in ["HUP", "USR2"] {
        signal(&program, name).await;
        terminal.expect(name).await;
    }
    signal(&program, "TERM").await;
    terminal.expect("TERM").await;
    assert_eq!(terminal.finish().await.1.code(), Some(5));
    assert_eq!(folder.report()["stop_signal"], 2);
}

/// Many times, because the ends of two processes race.
#[tokio::test]
async fn ctrl_c_means_no_session_even_if_the_step_ends_first() {
    for _ in 0..20 {
        let folder = Folder::new();
        let step = folder.step(&["sh", "-c", "echo begun-$((1+1)); exec sleep 1000"]).await;
        let mut terminal = Terminal::open(step, 24, 80);
        terminal.expect("begun-2").await;
        terminal.type_text("\x03").await;
        assert_eq!(terminal.finish().await.1.code(), Some(130));
        let report = folder.report();
        assert_eq!(
            (report["signal"].as_i64(), report["stop_signal"].as_i64()),
            (Some(2), Some(2)),
            "{report}"
        );
        assert_eq!(report["opens_on_failure"], false);
    }
}

/// What a process does, as the system's one letter.
fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

#[tokio::test]
async fn with_a_terminal_the_step_reads_from_it_and_job_control_works() {
    let folder = Folder::new();
    let program = example("run_step").await;
    let mut shell = Command::new("bash");
    // Without its editor, which takes the terminal's line discipline away while a test types ahead.
    shell
        .args(["--norc", "--noprofile", "--noediting", "-i"])
        .current_dir(folder.0.path())
        .env("TERM", "dumb");
    let mut terminal = Terminal::open(shell, 24, 200);
    let step = "sh -c 'echo begun-$((1+1))-$$-; read x; echo got-$x; exit 3'";
    terminal.type_text(&format!("PS1='prompt-$((1+1))'; '{}' report.json {step}\n", program.display())).await;
    terminal.expect("begun-2-").await;
    let pid = terminal.expect("-").await;
    let pid = pid.trim_end_matches('-').to_owned();
    terminal.type_text("\x1a").await;
    terminal.expect("Stopped").await;
    terminal.expect("prompt-2").await;
    // bash waits for the agent alone. A step that was reading may still take what comes before it has stopped, too.
    until("the step is stopped", || state(&pid) == Some('T')).await;
    terminal.type_text("fg\n").await;
    // What bash says when it continues the job: the whole line, which has the echoed `fg` in front of it.
    terminal.expect("report.json").await;
    terminal.type_text("word\n").await;
    terminal.expect("got-word").await;
    terminal.type_text("echo status-$?-$((1+1)); exit\n").await;
    terminal.expect("status-3-2").await;
    terminal.finish().await;
    assert!(folder.report()["stop_signal"].is_null());
}

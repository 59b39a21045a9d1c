//! The end of sessions, and what a server leaves behind: nothing.

mod common;

use std::process::Stdio;

use common::terminal::Terminal;
use common::{Files, TestServer, is_running, run, success, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_the_client_and_hangs_up_whole_process_groups() {
    let server = TestServer::start().await;
    let mut ssh = server.ssh(&["-v"], "sleep 1000 & echo $$ $!; wait");
    let mut ssh =
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh");
    let mut pids = String::new();
    let mut stdout = BufReader::new(ssh.stdout.take().expect("piped"));
    stdout.read_line(&mut pids).await.expect("the command says its numbers");
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{pids:?}");

    let _files = server.stop().await;
    let mut log = String::new();
    ssh.stderr.take().expect("piped").read_to_string(&mut log).await.expect("text");
    assert!(!ssh.wait().await.expect("it was waited for").success());
    assert!(log.contains("the agent is stopping"), "{log}");
    for pid in pids {
        until("the program is gone", || !is_running(pid)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_leaves_no_program() {
    let server = TestServer::start().await;
    for options in [&[][..], &["-tt"]] {
        let mut ssh = server.ssh(options, "echo $$; exec sleep 1000");
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh");
        let mut pid = String::new();
        let mut stdout = BufReader::new(ssh.stdout.take().expect("piped"));
        stdout.read_line(&mut pid).await.expect("the command says its number");
        assert!(is_running(&pid));
        ssh.kill().await.expect("it can be killed");
        until("the program is gone", || !is_running(&pid)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_channel_leaves_the_others() {
    let server = TestServer::start().await;
    let control = format!("ControlPath={}", server.files.path("control").display());
    let mut master = server
        .ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "")
        .spawn()
        .expect("ssh is installed");
    until("the control socket", || server.files.path("control").exists()).await;
    let start = || {
        let mut ssh = server.ssh(&["-o", &control], "echo $$; cat");
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh")
    };
    let (mut first, mut second) = (start(), start());
    let mut pids = Vec::new();
    for ssh in [&mut first, &mut second] {
        let mut pid = String::new();
        BufReader::new(ssh.stdout.as_mut().expect("piped")).read_line(&mut pid).await.expect("a number");
        pids.push(pid);
    }
    first.kill().await.expect("it can be killed");
    // OpenSSH's master sends what it owes for a dead client only when something else wakes it up.
    success(&run(server.ssh(&["-o", &control], "true"), b"").await);
    until("the first program is gone", || !is_running(&pids[0])).await;
    assert!(is_running(&pids[1]));
    drop(second.stdin.take());
    assert!(second.wait().await.expect("it was waited for").success());
    master.kill().await.expect("the master can be killed");
}

/// A CI step's script starts the agent with `&`: SIGINT and SIGQUIT are ignored then, and would stay so in all its
/// children.
#[tokio::test(flavor = "multi_thread")]
async fn control_c_works_although_the_server_was_started_with_them_ignored() {
    let files = Files::new().await;
    let example = example().await;
    let mut script = Command::new("sh");
    script
        .arg("-c")
        .arg("trap '' INT QUIT HUP; \"$0\" \"$@\" & echo $!; wait")
        .arg(&example)
        .args([files.path("host"), files.path("authorized_keys")])
        .env("HOME", files.dir.path())
        .env("SHELL", "/bin/sh")
        .env("ENV", "")
        .current_dir(files.path("work"))
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut script = script.spawn().expect("sh is installed");
    let mut lines = BufReader::new(script.stdout.take().expect("piped")).lines();
    let mut line = async || lines.next_line().await.expect("text").expect("a line");
    let (pid, port) = (line().await, line().await.parse().expect("a port"));
    let server = KillOnDrop(&pid);

    let mut ssh = files.client("ssh", port, "id");
    ssh.arg("x@127.0.0.1");
    let mut terminal = Terminal::open(ssh, 24, 80);
    terminal.type_text("PS1=; grep SigIgn /proc/self/status; echo READY-$((6*7))\n").await;
    assert_eq!(ignored_of_three(&terminal.expect("READY-42").await), 0);
    // The program says itself that it runs: a shell on its way to `exec` may swallow the signal.
    terminal.type_text("echo begun-$((1+1)) > word; tail -f word\n").await;
    terminal.expect("begun-2").await;
    terminal.type_text("\x03").await;
    terminal.type_text("echo status-$?-$((1+1))\n").await;
    terminal.expect("status-130-2").await;
    terminal.type_text("exit 3\n").await;
    assert_eq!(terminal.finish().await.1.code(), Some(3));

    let mut ssh = files.client("ssh", port, "id");
    ssh.args(["x@127.0.0.1", "grep SigIgn /proc/self/status"]);
    assert_eq!(ignored_of_three(&success(&run(ssh, b"").await)), 0);

    drop(server);
    until("the server has ended", || !is_running(&pid)).await;
}

/// The example server, built now if this test program was built without it.
async fn example() -> std::path::PathBuf {
    let program = std::env::current_exe().expect("a path");
    let profile = program.parent().and_then(std::path::Path::parent).expect("a build directory");
    let example = profile.join("examples/ssh_server");
    if !example.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "converge-agent", "--example", "ssh_server"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().await.expect("cargo runs").success());
    }
    example
}

/// SIGHUP, SIGINT and SIGQUIT in a mask of ignored signals, as `/proc` shows it.
#[track_caller]
fn ignored_of_three(text: &str) -> u64 {
    let mask = text.rsplit("SigIgn:\t").next().and_then(|mask| mask.get(..16)).unwrap_or_default();
    u64::from_str_radix(mask, 16).unwrap_or_else(|error| panic!("{error}: {text:?}")) & 0b111
}

/// Asks a process to end that is not our own child.
struct KillOnDrop<'a>(&'a str);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg(self.0).status();
    }
}

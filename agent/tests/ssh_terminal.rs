//! Programs on a terminal, by the real OpenSSH client on a terminal of the test's own.

mod common;

use common::terminal::Terminal;
use common::{TestServer, run, success};
use tokio::process::Command;

/// An interactive shell, after its first command has been answered.
async fn shell(server: &TestServer, options: &[&str]) -> Terminal {
    let mut ssh: Command = server.ssh(options, "");
    ssh.env("TERM", "xterm-test");
    let mut terminal = Terminal::open(ssh, 40, 100);
    terminal.type_text("PS1=; echo READY-$((6*7))\n").await;
    terminal.expect("READY-42").await;
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_of_the_right_kind_and_size() {
    let server = TestServer::start().await;
    let mut terminal = shell(&server, &[]).await;
    terminal.type_text("stty size; echo $TERM-$((1+1)); [ $SSH_TTY = $(tty) ] && echo same-$((1+2))\n").await;
    terminal.expect("40 100").await;
    terminal.expect("xterm-test-2").await;
    terminal.expect("same-3").await;
    terminal.type_text("shopt -q login_shell || echo not-login-$((1+3)); echo $- | tr -d 'hBs'\n").await;
    terminal.expect("not-login-4").await;
    terminal.type_text("exit 7\n").await;
    let (rest, status) = terminal.finish().await;
    assert_eq!(status.code(), Some(7), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn window_changes_arrive() {
    let server = TestServer::start().await;
    let mut terminal = shell(&server, &[]).await;
    terminal.type_text("trap 'stty size' WINCH; echo armed-$((1+1))\n").await;
    terminal.expect("armed-2").await;
    terminal.resize(24, 80);
    // bash runs a trap when the foreground command ends: at the latest with the next line.
    terminal.until_size("24 80").await;
    terminal.type_text("exit\n").await;
    assert!(terminal.finish().await.1.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_interrupts_the_foreground_program_and_not_the_shell() {
    let server = TestServer::start().await;
    let mut terminal = shell(&server, &[]).await;
    // Not a subshell: one that has spoken and is on its way to the next program may swallow the signal.
    terminal.type_text("sh -c 'echo begun-$((1+1)); exec sleep 1000'; echo status-$?\n").await;
    terminal.expect("begun-2").await;
    terminal.type_text("\x03").await;
    terminal.type_text("echo still-$((1+2))\n").await;
    terminal.expect("still-3").await;
    terminal.type_text("exit 5\n").await;
    assert_eq!(terminal.finish().await.1.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_modes_of_the_client_are_applied() {
    let server = TestServer::start().await;
    // The client copies the modes of its own terminal; a script gives it one with particular modes.
    let mut script = Command::new("sh");
    let inner = server.ssh(&["-tt"], "stty -a; echo done-$((1+1))");
    let line = std::iter::once(inner.as_std().get_program())
        .chain(inner.as_std().get_args())
        .map(|word| format!("'{}'", word.to_str().expect("UTF-8")))
        .collect::<Vec<_>>()
        .join(" ");
    script.arg("-c").arg(format!("stty intr ^G -echoctl ixany; exec {line}"));
    let mut terminal = Terminal::open(script, 24, 80);
    let modes = terminal.expect("done-2").await;
    assert!(
        modes.contains("intr = ^G;") && modes.contains("-echoctl") && modes.contains(" ixany"),
        "{modes}"
    );
    assert!(terminal.finish().await.1.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_terminal_keeps_its_status_and_all_output() {
    let server = TestServer::start().await;
    let output =
        run(server.ssh(&["-tt"], "[ -t 0 ] && [ -t 2 ] && seq 20000; printf end; exit 6"), b"").await;
    assert_eq!(output.status.code(), Some(6));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("\r\n20000\r\nend"), "{:?}", &text[text.len().saturating_sub(60)..]);
    assert_eq!(text.lines().count(), 20001);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_input_is_typed_as_the_end_of_file_character() {
    let server = TestServer::start().await;
    assert!(success(&run(server.ssh(&["-tt"], "cat; echo ended"), b"line\n").await).ends_with("ended\r\n"));
    assert!(
        success(&run(server.ssh(&["-tt"], "cat; echo ended"), b"no newline").await).ends_with("ended\r\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_left_in_the_background_does_not_keep_the_session() {
    let server = TestServer::start().await;
    // The background program ignores the hang-up and holds the terminal, silent or not.
    for background in ["sleep 1000", "while :; do echo noise; done"] {
        let command = format!(
            "(trap '' HUP; echo $BASHPID > pid; {background}) & until [ -s pid ]; do :; done; echo over; exit 8"
        );
        let output = run(server.ssh(&["-tt"], &command), b"").await;
        assert_eq!(output.status.code(), Some(8));
        assert!(String::from_utf8_lossy(&output.stdout).contains("over"), "{}", output.stdout.len());
        let pid = std::fs::read_to_string(server.files.path("work/pid"))
            .expect("the background program has said its number");
        let _ = Command::new("kill").args(["-KILL", pid.trim()]).status().await;
        std::fs::remove_file(server.files.path("work/pid")).expect("the file can be removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_client_hangs_the_shell_up() {
    let server = TestServer::start().await;
    let mut terminal = shell(&server, &[]).await;
    terminal.type_text("sleep 1000 & echo pids-$((1+1))-$$-$!-end\n").await;
    terminal.expect("pids-2-").await;
    let pids = terminal.expect("-end").await;
    let (shell, job) = pids.trim_end_matches("-end").split_once('-').expect("two numbers");
    assert!(common::is_running(shell) && common::is_running(job));
    terminal.type_text("\n~.").await;
    terminal.finish().await;
    common::until("the shell is gone", || !common::is_running(shell)).await;
}

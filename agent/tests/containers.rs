//! Programs in a real container, by real OpenSSH through the agent and podman.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::library_client::log_in;
use common::podman::{Podman, with_libraries};
use common::terminal::Terminal;
use common::{PATIENCE, TestServer, assert_same_bytes, noise, run, success};
use converge_agent::place::PlaceConfig;
use russh::{ChannelMsg, Sig};
use tokio::process::Command;

async fn serve(podman: &Podman) -> TestServer {
    serve_with(podman, |_| {}).await
}

async fn serve_with(podman: &Podman, configure: impl FnOnce(&mut PlaceConfig)) -> TestServer {
    let place = podman.place(configure);
    TestServer::start_with(|config| {
        config.environment.push(("OF_THE_JOB".into(), "secret".into()));
        config.place = Some(place);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_inside_with_their_status_and_both_streams() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    let output = server.run("echo out; echo err >&2; readlink /bin/sh; exit 7").await;
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nbusybox\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    let output = server.run("kill -KILL $$").await;
    assert_eq!(output.status.code(), Some(137), "{output:?}");
    let output = server.run("nosuchcommand").await;
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert_eq!(success(&server.run("printf '%s' 'ä \"$x\" \\ é'").await), "ä \"$x\" \\ é");
    // A shell without a terminal reads its commands.
    let output = run(server.ssh(&["-T"], ""), b"echo read-$((1+1)); exit 5\n").await;
    assert_eq!((output.status.code(), output.stdout), (Some(5), b"read-2\n".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_is_the_containers_and_the_sessions_and_not_the_jobs() {
    let podman = Podman::running(&[]).await;
    let server = serve_with(&podman, |place| place.dir = Some("/etc".into())).await;
    let options = ["-o", "SetEnv=LC_TEST=a COLORTERM=truecolor LD_PRELOAD=/x"];
    let env = success(&run(server.ssh(&options, "env; pwd"), b"").await);
    for line in
        ["OF_THE_IMAGE=yes", "CONVERGE_ID=test-id", "LC_TEST=a", "COLORTERM=truecolor", "dir=theirs", "/etc"]
    {
        assert!(env.lines().any(|found| found == line), "{line} is missing in {env}");
    }
    for name in ["OF_THE_JOB", "LD_PRELOAD", "SSH_TTY", "SSH_AUTH_SOCK", "CARGO", "CONTAINERS_CONF"] {
        assert!(!env.lines().any(|line| line.starts_with(&format!("{name}="))), "{name} is in {env}");
    }
    assert!(env.lines().any(|line| line.starts_with("SSH_CONNECTION=127.0.0.1 ")), "{env}");
    assert!(env.lines().any(|line| line.starts_with("PATH=/usr/local/sbin:")), "{env}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_go_through_in_both_directions() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    let data = noise(10 * 1024 * 1024);
    std::fs::write(server.files.path("data"), &data).expect("the file can be written");
    let mut sha256sum = Command::new("sha256sum");
    sha256sum.arg(server.files.path("data"));
    let here = success(&run(sha256sum, b"").await);
    let hash = here.split(' ').next().expect("a hash");
    // The end of the input arrives, too, or this would hang.
    let there = success(&run(server.ssh(&[], "cat > /tmp/data; sha256sum < /tmp/data"), &data).await);
    assert!(there.starts_with(hash), "{there}, not {hash}");
    let back = server.run("cat /tmp/data").await;
    assert!(back.status.success());
    assert_same_bytes(&back.stdout, &data);
    // Both at once.
    let output = run(server.ssh(&[], "cat"), &data).await;
    assert!(output.status.success());
    assert_same_bytes(&output.stdout, &data);
}

/// An interactive shell inside, after its first command has been answered.
async fn shell(server: &TestServer) -> Terminal {
    let mut ssh: Command = server.ssh(&[], "");
    ssh.env("TERM", "xterm-test");
    let mut terminal = Terminal::open(ssh, 40, 100);
    terminal.type_text("PS1=; echo READY-$((6*7))\n").await;
    terminal.expect("READY-42").await;
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_that_follows_the_window() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    let mut terminal = shell(&server).await;
    // The tool sets the first size a moment after the start.
    terminal.until_size("40 100").await;
    terminal.type_text("echo $TERM-$((1+1)); tty; readlink /bin/sh\n").await;
    terminal.expect("xterm-test-2").await;
    terminal.expect("/dev/pts/").await;
    terminal.expect("busybox").await;
    terminal.resize(24, 81);
    terminal.until_size("24 81").await;
    terminal.type_text("sleep 1000; echo status-$?\n").await;
    podman.until_process("sleep 1000", true).await;
    terminal.type_text("\x03").await;
    terminal.type_text("echo still-$((1+2))\n").await;
    terminal.expect("still-3").await;
    terminal.type_text("exit 7\n").await;
    let (rest, status) = terminal.finish().await;
    assert_eq!(status.code(), Some(7), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_yet_is_waited_for() {
    let podman = Podman::new(&[]).await;
    let server = serve(&podman).await;
    let mut terminal = Terminal::open(server.ssh(&[], ""), 40, 100);
    terminal.expect("waiting up to 1m for the container web to run").await;
    podman.start().await;
    terminal.type_text("echo inside-$((6*7)); readlink /bin/sh\n").await;
    terminal.expect("inside-42").await;
    terminal.expect("busybox").await;
    terminal.type_text("exit\n").await;
    assert!(terminal.finish().await.1.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_not_there_is_explained_with_the_tools_words() {
    let podman = Podman::new(&[]).await;
    let server = serve_with(&podman, |place| place.wait = Duration::from_millis(1200)).await;
    let output = server.run("true").await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(126), "{text}");
    assert!(text.contains("waiting up to 1s for the container web"), "{text}");
    assert!(text.contains("the container web does not run after 1 s: podman: Error"), "{text}");
    assert!(text.contains("no such container"), "{text}");
    assert!(!output.stderr.is_empty() && output.stdout.is_empty());

    let server = serve_with(&podman, |place| place.wait = Duration::ZERO).await;
    let output = server.run("true").await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("waiting") && text.contains("the container web does not run: podman"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_the_client_reach_the_program_inside() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    let (client, _opened) = log_in(&server, None).await;
    let mut channel = client.channel_open_session().await.expect("a channel");
    let script = "trap 'echo got; exit 9' USR1; echo armed; while :; do sleep 0.1; done";
    channel.exec(true, script).await.expect("it can be sent");
    let (mut output, mut status) = (Vec::new(), None);
    let reading = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => output.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
            if output == b"armed\n" {
                channel.signal(Sig::Custom("USR1".into())).await.expect("it can be sent");
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the channel ends");
    assert_eq!((String::from_utf8_lossy(&output).as_ref(), status), ("armed\ngot\n", Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_nothing_inside_but_what_ignores_it() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    // The shell's child as well, which has no other end than a signal; nobody writes to its standard input.
    for options in [&[][..], &["-tt"]] {
        let mut ssh = server.ssh(options, "sleep 7771 & sleep 7772; true");
        ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut ssh = ssh.spawn().expect("ssh is installed");
        podman.until_process("sleep 7771", true).await;
        podman.until_process("sleep 7772", true).await;
        ssh.kill().await.expect("it can be killed");
        podman.until_process("sleep 7772", false).await;
        podman.until_process("sleep 7771", false).await;
    }
    let mut terminal = shell(&server).await;
    terminal.type_text("(trap '' HUP; exec sleep 7773) &\n").await;
    terminal.type_text("sleep 7774\n").await;
    podman.until_process("sleep 7774", true).await;
    drop(terminal);
    podman.until_process("sleep 7774", false).await;
    assert!(podman.inside("ps").await.contains("sleep 7773"), "who ignores it means it, as here");
    assert!(podman.inside("ps").await.contains("sleep 1000"), "the container's own program is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_while_its_program_starts_leaves_nothing_inside() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    for round in 0..6 {
        let (client, _opened) = log_in(&server, None).await;
        let channel = client.channel_open_session().await.expect("a channel");
        channel.exec(true, "exec sleep 7775").await.expect("it can be sent");
        // At another point of the start each time.
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        drop((channel, client));
    }
    // When this returns, every session has cleaned up behind itself.
    server.stop().await;
    podman.until_process("sleep 7775", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_agent_ends_everything_inside_that_its_sessions_run() {
    let podman = Podman::running(&[]).await;
    let server = serve(&podman).await;
    let mut clients = Vec::new();
    for (number, (options, command)) in [
        (&[][..], "trap '' HUP TERM; echo $$ > /tmp/1; while :; do sleep 7776; done"),
        (&["-tt"], "trap '' HUP TERM; echo $$ > /tmp/2; while :; do sleep 7777; done"),
        (&[], "setsid sleep 7778 & sleep 7779"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut ssh = server.ssh(options, command);
        // What ssh or podman complain about is needed when the program does not appear.
        ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        clients.push(ssh.spawn().expect("ssh is installed"));
        podman.until_process(&format!("sleep {}", 7776 + number), true).await;
    }
    podman.until_process("sleep 7779", true).await;
    server.stop().await;
    let left = podman.inside("ps").await;
    assert!(!left.contains("sleep 777"), "{left}");
    assert!(left.contains("sleep 1000"), "the container's own program is left alone: {left}");
}

/// Puts a file there and gets it back, and looks at a link that points out of the container for whoever follows it
/// from outside.
async fn transfers(podman: &Podman, server: &TestServer) {
    let files = &server.files;
    let data = noise(3 * 1024 * 1024 + 7);
    std::fs::write(files.path("data"), &data).expect("the file can be written");
    std::fs::write(files.path("secret"), "of the job").expect("the file can be written");
    let secret = files.path("secret");
    let secret = secret.to_str().expect("UTF-8");
    let up = "../".repeat(20);
    podman
        .inside(&format!("ln -s {secret} /tmp/absolute; ln -s {up}{secret} /tmp/relative; ln -s / /tmp/root"))
        .await;
    let (here, back) = (files.path("data"), files.path("back"));
    let (here, back) = (here.display(), back.display());
    let stolen = files.path("stolen");
    let batch = format!(
        "put {here} /tmp/sent\nget /tmp/sent {back}\nmkdir /tmp/d\nrename /tmp/sent /tmp/d/sent\nls -l /tmp/d\n\
         -get /tmp/absolute {stolen}\n-get /tmp/relative {stolen}\n-get /tmp/root/{secret} {stolen}\n-get {secret} {stolen}\n\
         -get /tmp/root/../../../../..{secret} {stolen}\n-get /proc/1/root{secret} {stolen}\n-put {here} /tmp/root/of-sftp\n",
        stolen = stolen.display()
    );
    std::fs::write(files.path("batch"), batch).expect("the file can be written");
    let mut sftp = server.client("sftp");
    sftp.arg("-b").arg(files.path("batch")).arg("x@127.0.0.1");
    let said = success(&run(sftp, b"").await);
    assert!(said.contains("/tmp/d/sent"), "{said}");
    assert_same_bytes(&std::fs::read(files.path("back")).expect("the file is back"), &data);
    assert_eq!(podman.inside("wc -c < /tmp/d/sent").await.trim(), data.len().to_string());
    assert!(!stolen.exists(), "a file of the job was read through the container: {said}");
    assert_eq!(podman.inside("wc -c < /of-sftp").await.trim(), data.len().to_string());
    assert!(!Path::new("/of-sftp").exists(), "it is in the container's root and not in that of the job");
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_served_by_the_containers_own_server() {
    let server = Path::new("/usr/lib/openssh/sftp-server");
    let podman = Podman::running(&with_libraries(server).await).await;
    let server = serve(&podman).await;
    transfers(&podman, &server).await;
    refuses_changes(&podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_served_by_this_program_where_there_is_no_server() {
    let program = Path::new(env!("CARGO_BIN_EXE_converge-agent"));
    let libraries: Vec<_> =
        with_libraries(program).await.into_iter().filter(|library| library != program).collect();
    let podman = Podman::running(&libraries).await;
    let server = serve_with(&podman, |place| place.sftp_program = Some(program.to_owned())).await;
    transfers(&podman, &server).await;
    refuses_changes_with(&podman, |place| place.sftp_program = Some(program.to_owned())).await;
    let left = podman.inside("ls -a / /tmp /var/tmp 2>&1; true").await;
    assert!(!left.contains(".converge"), "the program is not left behind: {left}");
}

async fn refuses_changes(podman: &Podman) {
    refuses_changes_with(podman, |_| {}).await;
}

async fn refuses_changes_with(podman: &Podman, configure: impl FnOnce(&mut PlaceConfig)) {
    let place = podman.place(configure);
    let server = TestServer::start_with(|config| {
        config.place = Some(place);
        config.policy.read_only_sftp = true;
    })
    .await;
    let mut sftp = server.client("sftp");
    std::fs::write(server.files.path("batch"), "get /etc/hostname\n-mkdir /tmp/refused\n").expect("a file");
    sftp.current_dir(server.files.path("work")).arg("-b").arg(server.files.path("batch")).arg("x@127.0.0.1");
    let output = run(sftp, b"").await;
    success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("ermission denied"), "{output:?}");
    assert_eq!(podman.inside("[ -e /tmp/refused ] || echo none").await, "none\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_refused_in_words_where_nothing_can_serve_it() {
    let podman = Podman::running(&[]).await;
    let program = Path::new(env!("CARGO_BIN_EXE_converge-agent"));
    let server = serve_with(&podman, |place| place.sftp_program = Some(program.to_owned())).await;
    let mut sftp = server.client("sftp");
    sftp.arg("x@127.0.0.1");
    let output = run(sftp, b"").await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("no sftp in the container web: it has no sftp-server"), "{text}");
    assert!(text.contains("it does not run there"), "{text}");
    let left = podman.inside("ls -a / /tmp").await;
    assert!(!left.contains(".converge"), "{left}");
}

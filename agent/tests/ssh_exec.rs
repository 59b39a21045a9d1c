//! Commands without a terminal, by the real OpenSSH client.

mod common;

use common::{TestServer, assert_same_bytes, noise, run, success};

#[tokio::test(flavor = "multi_thread")]
async fn stdout_and_stderr_are_separate_and_the_exit_status_is_exact() {
    let server = TestServer::start().await;
    for status in [0, 1, 7, 254] {
        let output = server.run(&format!("echo out; echo err >&2; exit {status}")).await;
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn death_by_signal_is_told_by_name() {
    let server = TestServer::start().await;
    // OpenSSH's client shows the name only when it is verbose, and exits with 255.
    let output = run(server.ssh(&["-vv"], "kill -TERM $$"), b"").await;
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{log}");
    assert!(log.contains("rtype exit-signal"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_go_in_and_out_unchanged() {
    let server = TestServer::start().await;
    let data = noise(24 * 1024 * 1024);
    let output = run(server.ssh(&[], "cat"), &data).await;
    success(&output);
    assert_same_bytes(&output.stdout, &data);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_input_reaches_the_command() {
    let server = TestServer::start().await;
    assert_eq!(success(&run(server.ssh(&[], "wc -c"), b"12345").await).trim(), "5");
    assert_eq!(success(&run(server.ssh(&[], "wc -c"), b"").await).trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_read_its_input_still_ends_with_its_status() {
    let server = TestServer::start().await;
    let output = run(server.ssh(&[], "exit 3"), &noise(32 * 1024 * 1024)).await;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let output =
        run(server.ssh(&[], "exec 0<&-; read x 2>/dev/null; echo out; exit 4"), &noise(32 * 1024 * 1024))
            .await;
    assert_eq!((output.status.code(), output.stdout), (Some(4), b"out\n".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_stdout_early_loses_neither_stderr_nor_status() {
    let server = TestServer::start().await;
    let output = run(server.ssh(&[], "echo out; exec 1>&-; cat >&2; exit 5"), b"late").await;
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"late");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_background_programs_is_read_to_its_end() {
    let server = TestServer::start().await;
    let fifo = server.files.path("work/fifo");
    let output =
        server.run("mkfifo fifo; (cat fifo; echo late) & echo early; exec >&- 2>&-; echo x > fifo").await;
    assert_eq!(success(&output), "early\nx\nlate\n");
    assert!(fifo.exists(), "the command ran in the working directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_long_output_is_never_lost() {
    let server = TestServer::start().await;
    for _ in 0..5 {
        let output = success(&server.run("seq 200000; printf end").await);
        assert!(output.ends_with("200000\nend"), "{:?}", &output[output.len().saturating_sub(40)..]);
        assert_eq!(output.len(), 1_288_895 + 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_is_the_agents_and_clients_add_only_what_is_allowed() {
    let server = TestServer::start_with(|config| {
        config.environment.push(("FROM_AGENT".into(), "yes".into()));
        config.environment.push(("SSH_TTY".into(), "/dev/stale".into()));
    })
    .await;
    let options = ["-o", "SetEnv=LC_TEST=a COLORTERM=truecolor LD_PRELOAD=/x EVIL=1 GIT_PROTOCOL=version=2"];
    let env = success(&run(server.ssh(&options, "env; shopt -q login_shell || echo not-login"), b"").await);
    let work = server.files.path("work");
    let pwd = format!("PWD={}", work.display());
    for line in [
        "FROM_AGENT=yes",
        "CONVERGE_ID=test-id",
        "LC_TEST=a",
        "COLORTERM=truecolor",
        "GIT_PROTOCOL=version=2",
        &pwd,
        "not-login",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} is missing in {env}");
    }
    assert!(env.lines().any(|line| line.starts_with("SHELL=/") && line.ends_with("/bash")), "{env}");
    let connection = format!(" 127.0.0.1 {}", server.port);
    assert!(
        env.lines().any(|line| line.starts_with("SSH_CONNECTION=127.0.0.1 ") && line.ends_with(&connection))
    );
    for name in ["LD_PRELOAD", "EVIL", "SSH_TTY", "SSH_ORIGINAL_COMMAND"] {
        assert!(!env.lines().any(|line| line.starts_with(&format!("{name}="))), "{name} is in {env}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_may_be_any_bytes_and_very_long() {
    let server = TestServer::start().await;
    assert_eq!(success(&server.run("printf '%s' 'ä \"$x\" \\ é'").await), "ä \"$x\" \\ é");
    let long = "x".repeat(100_000);
    assert_eq!(success(&server.run(&format!("printf %s {long}")).await), long);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_explained() {
    let server = TestServer::start().await;
    std::fs::remove_dir(server.files.path("work")).expect("the directory can be removed");
    let output = server.run("true").await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(126), "{text}");
    assert!(text.contains("cannot start ") && text.contains("No such file or directory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_in_plain_words() {
    let server = TestServer::start().await;
    let output = run(server.ssh(&["-s"], "netconf"), b"").await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("subsystem request failed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_commands_at_once_over_one_connection() {
    let server = TestServer::start().await;
    let control = server.files.path("control");
    let control = format!("ControlPath={}", control.display());
    let mut master = server
        .ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "")
        .spawn()
        .expect("ssh is installed");
    common::until("the control socket", || server.files.path("control").exists()).await;
    let commands = (0..50).map(|number| {
        let ssh = server.ssh(&["-o", &control], &format!("cat; echo {number}; exit {number}"));
        async move { (number, run(ssh, format!("input {number} ").as_bytes()).await) }
    });
    let mut tasks = tokio::task::JoinSet::new();
    commands.for_each(|command| drop(tasks.spawn(command)));
    while let Some(done) = tasks.join_next().await {
        let (number, output) = done.expect("no panic");
        assert_eq!(output.status.code(), Some(number), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("input {number} {number}\n"));
    }
    master.kill().await.expect("the master can be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_a_channel_leaves_running_programs_alone() {
    let server = TestServer::start().await;
    let control = format!("ControlPath={}", server.files.path("control").display());
    let mut master = server
        .ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "")
        .spawn()
        .expect("ssh is installed");
    common::until("the control socket", || server.files.path("control").exists()).await;
    // The first program has had the end of its input long before it ends: that is when it could be taken for over.
    success(&run(server.ssh(&["-o", &control], "mkfifo started go"), b"").await);
    let first =
        tokio::spawn(run(server.ssh(&["-o", &control], "cat; echo > started; cat go; exit 9"), b"input "));
    for _ in 0..3 {
        success(
            &run(server.ssh(&["-o", &control], "[ -e seen ] || { cat started; touch seen; }"), b"").await,
        );
    }
    success(&run(server.ssh(&["-o", &control], "echo went > go"), b"").await);
    let output = first.await.expect("no panic");
    assert_eq!((output.status.code(), output.stdout), (Some(9), b"input went\n".to_vec()));
    master.kill().await.expect("the master can be killed");
}

//! A relay that is stopped, killed, started again, or cannot start.

use anyhow::{Context, Result};
use converge_interop_tests::{Agent, Carrier, Process, Relay, Setup, process::run, programs};
use rustix::process::Signal;
use std::{fs, process::Command};

on_both_carriers! {
    agent_comes_back_to_a_relay_that_was_killed,
    stopping_relay_does_not_wait_for_sessions_that_go_on_elsewhere,
    relay_that_cannot_start_says_why,
}

/// `HOST:PORT` of the relay.
fn authority(setup: &Setup) -> Result<String> {
    let url = setup.relay.url.strip_prefix("https://").context("an https URL")?;
    Ok(url.split_once('#').map_or(url, |(authority, _)| authority).to_owned())
}

fn agent_comes_back_to_a_relay_that_was_killed(setup: &mut Setup) -> Result<()> {
    let authority = authority(setup)?;
    run(setup.openssh("ssh")?.arg("true"), b"")?.success()?;
    setup.relay.process.signal(Signal::KILL)?;
    setup.relay.process.wait()?;
    let gone = run(setup.converge()?.args(["proxy", &setup.agent.address]), b"")?;
    assert_eq!(gone.status.code(), Some(4), "{}", gone.stderr);

    setup.relay = Relay::start_on(setup.path(), &authority)?;
    let mut ssh = setup.converge()?;
    // The same address: the ID is the agent's again, and the pin the relay's.
    ssh.args(["ssh", "--wait", "50s", &setup.agent.address]).args(setup.ssh_options()).arg("echo in");
    assert_eq!(run(&mut ssh, b"")?.success()?.text(), "in\n");
    let log = setup.agent.process.log();
    assert_eq!(log.matches("registered id=").count(), 2, "{log}");
    Ok(())
}

fn stopping_relay_does_not_wait_for_sessions_that_go_on_elsewhere(setup: &mut Setup) -> Result<()> {
    let authority = authority(setup)?;
    let mut ssh = setup.openssh("ssh")?;
    let mut session = Process::start_with_input(
        "session",
        ssh.arg("echo in; read word; echo $word; exit 7"),
        setup.path(),
    )?;
    session.wait_for("a login", |line| (line == "in").then_some(()))?;
    setup.relay.process.signal(Signal::TERM)?;
    setup.agent.process.wait_for_log("that the relay goes", |log| log.contains("the relay is going away"))?;
    assert!(setup.relay.process.wait()?.success());
    let log = setup.relay.process.log();
    assert!(log.contains("every session had ended"), "{log}");
    let refused = run(setup.converge()?.args(["proxy", &setup.agent.address]), b"")?;
    assert_eq!(refused.status.code(), Some(4), "{}", refused.stderr);

    session.write_line("word")?;
    setup.relay = Relay::start_on(setup.path(), &authority)?;
    session.wait_for("an echo", |line| (line == "word").then_some(()))?;
    assert_eq!(session.wait()?.code(), Some(7));
    Ok(())
}

fn relay_that_cannot_start_says_why(setup: &mut Setup) -> Result<()> {
    let refused = |status: i32, arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(programs::own("converge-relay")?);
        let state = setup.path().join("other-state");
        let output =
            run(command.current_dir(setup.path()).env("CONVERGE_STATE_DIR", state).args(arguments), b"")?;
        assert_eq!(output.status.code(), Some(status), "{}", output.stderr);
        assert!(output.stdout.is_empty());
        Ok(output.stderr)
    };
    let authority = authority(setup)?;
    let taken = refused(1, &["--listen", &authority])?;
    assert!(
        taken.contains(&format!("cannot listen on {authority}")) && taken.contains("--listen"),
        "{taken}"
    );
    let http = setup.relay.http.trim_start_matches("ws://");
    let taken = refused(1, &["--listen", "127.0.0.1:0", "--http", http])?;
    assert!(taken.contains(&format!("cannot listen on {http}")), "{taken}");

    fs::write(setup.path().join("garbage.pem"), "garbage")?;
    let identity = ["--listen", "127.0.0.1:0", "--cert", "missing.pem", "--key", "missing.pem"];
    // What the operator has to change, as of a wrong flag.
    let missing = refused(2, &identity)?;
    assert!(missing.contains("missing.pem") && missing.contains("--cert"), "{missing}");
    let garbage = refused(2, &identity.map(|word| if word == "missing.pem" { "garbage.pem" } else { word }))?;
    assert!(garbage.contains("garbage.pem"), "{garbage}");
    let not_a_directory = refused(2, &["--listen", "127.0.0.1:0", "--state-dir", "garbage.pem"])?;
    assert!(not_a_directory.contains("garbage.pem"), "{not_a_directory}");
    Ok(())
}

/// On QUIC there is no connection below whose end would tell: without a word the relay holds the link until it has been silent
/// for long.
#[test]
fn client_that_is_done_tells_the_relay() {
    crate::tell(Carrier::Quic, |setup| {
        let directory = setup.path().join("another");
        fs::create_dir(&directory)?;
        let relay = Relay::start_with(&directory, "127.0.0.1:0", ["--log", "info,converge_relay=debug"])?;
        let agent = Agent::start(&setup.job(), &directory, &relay.url, ["--transport", "quic", "--hold"])?;
        for line in ["true", "exit 3", "head -c 1000000 /dev/zero"] {
            run(setup.openssh_to("ssh", &agent.address)?.arg(line), b"")?;
        }
        let ends = |log: &str| {
            let lines = log.lines().filter(|line| line.contains("a client's link has ended"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        relay.process.wait_for_log("the ends of three links", |log| ends(log).len() == 3)?;
        for end in ends(&relay.process.log()) {
            assert!(end.contains("closed by the other side"), "{end}");
        }
        Ok(())
    });
}

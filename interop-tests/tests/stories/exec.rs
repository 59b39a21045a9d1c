//! Commands: what they print, how they end, what they are fed, and many at once.

use anyhow::Result;
use converge_interop_tests::{Agent, Process, Setup, files, process::run, programs};
use std::{fs, process::Command};

on_both_carriers! {
    output_and_errors_stay_apart_and_the_status_is_the_commands_own,
    signal_is_reported_as_a_signal,
    command_runs_where_and_as_the_step_did,
    large_input_comes_back_whole,
    two_hundred_sessions_are_open_at_once,
    multiplexed_sessions_share_one_connection,
}

const LARGE_BYTES: u64 = 20_000_000;
const SESSIONS: usize = 200;
/// More logins at a time only wait for each other, and could run out of patience on a small machine.
const LOGINS_AT_ONCE: usize = 20;
/// What most systems give a process that does not ask for more.
const USUAL_OPEN_FILES: usize = 1024;

fn output_and_errors_stay_apart_and_the_status_is_the_commands_own(setup: &mut Setup) -> Result<()> {
    let output = run(setup.openssh("ssh")?.arg("echo out; echo err >&2; exit 7"), b"")?;
    assert_eq!(output.text(), "out\n");
    assert_eq!(output.stderr, "err\n");
    assert_eq!(output.status.code(), Some(7));
    Ok(())
}

fn signal_is_reported_as_a_signal(setup: &mut Setup) -> Result<()> {
    let output = run(setup.openssh("ssh")?.args(["-v", "kill -TERM $$"]), b"")?;
    // ssh shows a signal only to those who ask for details, and has one status for all of them.
    assert_eq!(output.status.code(), Some(255));
    assert!(output.stderr.contains("rtype exit-signal"), "{}", output.stderr);
    assert!(!output.stderr.contains("rtype exit-status"), "{}", output.stderr);
    Ok(())
}

fn command_runs_where_and_as_the_step_did(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("step")?;
    let mut command = setup.agent_command(&job)?;
    let agent = Agent::start_as("step-agent", command.env("OF_THE_STEP", "here"), setup.path())?;
    let ask = "pwd; echo $OF_THE_STEP $CONVERGE_ID; test -d \"$agentdir\" && echo directory; echo $LC_PERSON";
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    ssh.env("LC_PERSON", "me").env("OF_THE_PERSON", "secret");
    let output = run(ssh.args(["-o", "SendEnv=LC_PERSON OF_THE_PERSON", ask]), b"")?.success()?;
    let wanted = format!("{}\nhere {}\ndirectory\nme\n", job.canonicalize()?.display(), agent.id);
    assert_eq!(output.text(), wanted);
    let refused = run(
        setup.openssh_to("ssh", &agent.address)?.env("LD_X", "1").args([
            "-o",
            "SendEnv=LD_X",
            "echo \"<$LD_X>\"",
        ]),
        b"",
    )?;
    assert_eq!(refused.success()?.text(), "<>\n");
    Ok(())
}

fn large_input_comes_back_whole(setup: &mut Setup) -> Result<()> {
    let file = setup.path().join("large");
    files::write_random(&file, LARGE_BYTES)?;
    let sent = fs::read(&file)?;
    let output = run(setup.openssh("ssh")?.arg("cat"), &sent)?.success()?;
    assert_eq!(files::sha256_of(&output.stdout), files::sha256_of(&sent));
    let there = run(setup.openssh("ssh")?.arg("sha256sum"), &sent)?.success()?;
    assert_eq!(there.text().split(' ').next(), Some(files::sha256(&file)?.as_str()));
    Ok(())
}

fn two_hundred_sessions_are_open_at_once(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("busy")?;
    let line = format!("ulimit -n {USUAL_OPEN_FILES}; exec \"$0\" \"$@\"");
    let mut limited = Agent::by_shell(&line, &setup.agent_command(&job)?);
    let agent = Agent::start_as("busy-agent", &mut limited, setup.path())?;

    let mut sessions: Vec<Process> = Vec::new();
    let is_here = |session: &mut Process| session.wait_for("a login", |line| (line == "here").then_some(()));
    for number in 0..SESSIONS {
        if let Some(earlier) = number.checked_sub(LOGINS_AT_ONCE) {
            is_here(&mut sessions[earlier])?;
        }
        let mut ssh = setup.openssh_to("ssh", &agent.address)?;
        ssh.arg("echo here; read word; echo \"got $word\"");
        let name = format!("session-{number}");
        sessions.push(Process::start_with_input(&name, &mut ssh, setup.path())?);
    }
    for session in &mut sessions[SESSIONS - LOGINS_AT_ONCE..] {
        is_here(session)?;
    }
    // All are open now, and each is still its own.
    for (number, session) in sessions.iter_mut().enumerate() {
        session.write_line(&format!("word-{number}"))?;
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        let answer = session.wait_for("an answer", |line| Some(line.to_owned()))?;
        assert_eq!(answer, format!("got word-{number}"));
        assert!(session.wait()?.success());
    }
    Ok(())
}

fn multiplexed_sessions_share_one_connection(setup: &mut Setup) -> Result<()> {
    let socket = setup.path().join("control").display().to_string();
    let mut master = setup.openssh("ssh")?;
    // The local command runs once the control socket is there.
    master.args([
        "-M",
        "-S",
        &socket,
        "-N",
        "-o",
        "PermitLocalCommand=yes",
        "-o",
        "LocalCommand=echo connected",
    ]);
    let mut master = Process::start("master", &mut master, setup.path())?;
    master.wait_for("a connection", |line| (line == "connected").then_some(()))?;

    let ssh = |arguments: &[&str]| {
        let mut command = Command::new(programs::installed("ssh")?);
        command.args(["-F", "none", "-S", &socket, "-o", "ProxyCommand=false"]).args(arguments);
        anyhow::Ok(command)
    };
    let mut shared = Vec::new();
    for number in 0..8 {
        let mut command = ssh(&["job", "echo here; read word; exit $word"])?;
        let mut session = Process::start_with_input(&format!("shared-{number}"), &mut command, setup.path())?;
        session.wait_for("a login", |line| (line == "here").then_some(()))?;
        shared.push(session);
    }
    for (number, session) in (0..).zip(&mut shared) {
        session.write_line(&number.to_string())?;
        assert_eq!(session.wait()?.code(), Some(number));
    }
    assert_eq!(setup.agent.process.log().matches("session begins").count(), 1);
    run(&mut ssh(&["-O", "exit", "job"])?, b"")?.success()?;
    master.wait()?;
    Ok(())
}

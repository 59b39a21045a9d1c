//! A step that fails is opened to people, who decide how the job goes on.

use super::{
    shell::{PROFILE, shell},
    tidy::Tidy,
};
use anyhow::Result;
use converge_interop_tests::{
    Setup,
    process::{Process, run},
    terminal::Terminal,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, process::Command};

on_both_carriers! {
    step_that_succeeds_is_as_if_alone,
    failed_step_waits_for_somebody_and_ends_with_its_status,
    visitor_sees_why_runs_it_again_and_lets_the_job_go_on,
    visitor_lets_the_job_fail_in_another_way,
    visitor_who_just_leaves_changes_nothing,
    cancelled_step_opens_nothing,
    session_that_cannot_be_opened_leaves_the_status,
    secrets_are_kept_out_and_events_are_told,
}

/// `converge-agent run` with these arguments and this step, in a job of its own.
fn step(setup: &Setup, arguments: &[&str], line: &str) -> Result<Command> {
    let job = setup.path().join("step");
    if !job.exists() {
        setup.new_job("step")?;
    }
    for file in [".profile", ".bashrc", ".bash_profile"] {
        fs::write(job.join(file), PROFILE)?;
    }
    let mut command = setup.agent_program()?;
    command.current_dir(&job).env("HOME", &job).env("SHELL", "/bin/bash").env_remove("PROMPT_COMMAND");
    command.args(["run", "--relay", &setup.relay.url, "--transport", &setup.carrier.to_string()]);
    command.args(arguments).args(["--", "sh", "-c", line]);
    Ok(command)
}

const FAILS: &str = "echo hi; echo oh >&2; exit 3";

fn step_that_succeeds_is_as_if_alone(setup: &mut Setup) -> Result<()> {
    let output = run(&mut step(setup, &[], "cat; echo oh >&2")?, b"\x00exactly\xff")?;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"\x00exactly\xff"[..], "oh\n"));
    let output = run(&mut step(setup, &["--on", "never"], FAILS)?, b"")?;
    assert_eq!((output.status.code(), output.text()), (Some(3), "hi\n".to_owned()));
    Ok(())
}

fn failed_step_waits_for_somebody_and_ends_with_its_status(setup: &mut Setup) -> Result<()> {
    let mut agent = Tidy::start(setup, &mut step(setup, &["--first-timeout", "1s"], FAILS)?)?;
    agent.ends_with(3)?;
    let log = agent.log();
    assert!(log.contains("sh -c 'echo hi; echo oh >&2; exit 3' failed with status 3 after 0s"), "{log}");
    let status = &["--first-timeout", "1s", "--timeout-status", "75"];
    Tidy::start(setup, &mut step(setup, status, FAILS)?)?.ends_with(75)
}

fn visitor_sees_why_runs_it_again_and_lets_the_job_go_on(setup: &mut Setup) -> Result<()> {
    let line = "echo \"attempt in $(pwd) with $OF_THE_STEP\"; test -e mended";
    let mut command = step(setup, &[], line)?;
    let mut agent = Tidy::start(setup, command.env("OF_THE_STEP", "everything"))?;
    let mut terminal = Terminal::open(setup.openssh_to("ssh", &agent.address)?, 24, 200)?;
    let greeting = terminal.expect("job> ")?;
    assert!(greeting.contains("test -e mended' failed with status 1 after "), "{greeting}");
    assert!(greeting.contains("To run it again: rerun"), "{greeting}");
    assert!(greeting.contains("converge-agent resume"), "{greeting}");
    let attempt = format!("attempt in {} with everything\r\n", setup.path().join("step").display());
    terminal.type_text("cd /; rerun; echo stat''us $?\r")?;
    terminal.expect(&attempt)?;
    terminal.expect("status 1\r\n")?;
    terminal.type_text("touch ~/mended; rerun; echo stat''us $?; rm ~/mended\r")?;
    terminal.expect(&attempt)?;
    terminal.expect("status 0\r\n")?;
    terminal.type_text("converge-agent resume\r")?;
    let (text, _) = terminal.finish()?;
    assert!(text.contains("the agent ends: a user lets the job go on"), "{text}");
    agent.ends_with(0)
}

fn visitor_lets_the_job_fail_in_another_way(setup: &mut Setup) -> Result<()> {
    let mut agent = Tidy::start(setup, &mut step(setup, &["--on", "always"], "true")?)?;
    run(setup.openssh_to("ssh", &agent.address)?.arg("converge-agent fail 9"), b"")?;
    agent.ends_with(9)
}

fn visitor_who_just_leaves_changes_nothing(setup: &mut Setup) -> Result<()> {
    let mut agent = Tidy::start(setup, &mut step(setup, &[], "kill -KILL $$")?)?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("converge-agent status --json\r")?;
    terminal.expect("was ended by signal 9")?;
    terminal.type_text("exit\r")?;
    terminal.finish()?;
    agent.ends_with(137)
}

fn cancelled_step_opens_nothing(setup: &mut Setup) -> Result<()> {
    let line = "trap 'echo cleaning up; exit 4' TERM; echo begun; while :; do sleep 0.1; done";
    let mut step = Process::start("step", &mut step(setup, &[], line)?, setup.path())?;
    step.wait_for("the step", |line| (line == "begun").then_some(()))?;
    step.signal(Signal::TERM)?;
    step.wait_for("its last words", |line| (line == "cleaning up").then_some(()))?;
    assert_eq!(step.wait()?.code(), Some(4));
    assert!(!step.log().contains("session"), "{}", step.log());
    Ok(())
}

fn session_that_cannot_be_opened_leaves_the_status(setup: &mut Setup) -> Result<()> {
    let output = run(&mut step(setup, &["--authorized-keys", "none"], FAILS)?, b"")?;
    assert_eq!((output.status.code(), output.text()), (Some(3), "hi\n".to_owned()));
    assert!(output.stderr.contains("no session is opened: no key may log in"), "{}", output.stderr);
    let mut missing = step(setup, &["--first-timeout", "1s"], FAILS)?;
    let arguments: Vec<_> = missing.get_args().map(ToOwned::to_owned).collect();
    let at = arguments.iter().position(|argument| argument == "sh").unwrap_or_default();
    missing = {
        let mut command = Command::new(missing.get_program());
        command.current_dir(setup.path().join("step")).args(&arguments[..at]).arg("no-such-program");
        command
    };
    let mut agent = Tidy::start(setup, &mut missing)?;
    assert!(agent.log().contains("no-such-program: command not found"), "{}", agent.log());
    agent.ends_with(127)
}

fn secrets_are_kept_out_and_events_are_told(setup: &mut Setup) -> Result<()> {
    let events = setup.path().join("events");
    let hooked = setup.path().join("hooked");
    let hook = format!("echo \"$CONVERGE_EVENT\" >> {}", hooked.display());
    let arguments = [
        "--scrub-env",
        "*TOKEN*,AWS_*",
        "--event-log",
        &events.display().to_string(),
        "--on-login",
        &hook,
        "--on-logout",
        &hook,
        "--on-exit",
        &hook,
        "--on-warning",
        &hook,
        "--idle-timeout",
        "2s",
        "--warn",
        "1s",
    ];
    let mut command = step(setup, &arguments, "test -n \"$npm_token\" && exit 6")?;
    command.envs([("npm_token", "secret"), ("AWS_KEY", "secret"), ("HARMLESS", "here")]);
    let mut agent = Tidy::start(setup, &mut command)?;
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    let seen = run(ssh.arg("-tt").arg("echo \"$npm_token,$AWS_KEY,$HARMLESS\"; sleep 1000"), b"")?;
    assert!(seen.text().starts_with(",,here\r\n"), "{} {}", seen.text(), seen.stderr);
    agent.ends_with(6)?;
    let lines = fs::read_to_string(&events)?;
    let lines = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let kinds: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    let expected =
        ["step_finished", "session_started", "login", "warning", "session_finished", "agent_finished"];
    let without_programs: Vec<_> = kinds.iter().copied().filter(|kind| *kind != "exec").collect();
    assert_eq!(without_programs, expected, "{lines:?}");
    assert_eq!(lines[0]["status"], 6);
    let login = lines.iter().find(|line| line["event"] == "login");
    assert!(
        login
            .is_some_and(|login| login["user"]["key"].as_str().is_some_and(|key| key.starts_with("SHA256:")))
    );
    let reason = lines.iter().find(|line| line["event"] == "session_finished").map(|line| &line["reason"]);
    assert_eq!(reason.and_then(Value::as_str), Some("the agent ends: nobody did anything for 2s"));
    let hooked = fs::read_to_string(&hooked)?;
    assert_eq!(
        hooked.lines().collect::<Vec<_>>(),
        ["login", "warning", "session_finished", "agent_finished"]
    );
    Ok(())
}

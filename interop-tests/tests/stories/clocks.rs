//! What ends an agent by itself, and what users hear of it.

use super::{
    shell::{job_with_prompt, shell},
    tidy::Tidy,
};
use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Process, Setup,
    process::{eventually, is_running, run},
    terminal::Terminal,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

on_both_carriers! {
    nobody_comes,
    forgotten_program_does_not_hold_the_job,
    key_after_a_warning_keeps_the_job,
    hold_file_with_a_time_in_the_future_stretches_it,
    last_user_out_ends_the_job,
    cancelled_job_tells_its_users,
    tunnels_and_transfers_hear_of_it_from_the_client,
    users_hear_of_each_other,
    job_is_asked_and_told_from_inside,
}

/// An agent that nobody holds, with these arguments.
fn start(setup: &Setup, command: &mut Command, arguments: &[&str]) -> Result<Tidy> {
    Tidy::start(setup, command.env_remove("CONVERGE_HOLD").args(arguments))
}

fn nobody_comes(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("lonely")?;
    for (arguments, status) in [(&[][..], 0), (&["--timeout-status", "75"], 75)] {
        let mut command = setup.agent_command(&job)?;
        let mut agent = start(setup, command.args(["--first-timeout", "1s"]), arguments)?;
        agent.ends_with(status)?;
        assert!(agent.process.log().contains("nobody logged in for 1s"), "{}", agent.process.log());
    }
    Ok(())
}

fn forgotten_program_does_not_hold_the_job(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let mut agent = start(setup, &mut command, &["--idle-timeout", "3s", "--warn", "1s"])?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("while :; do echo still he''re; sleep 0.1; done\r")?;
    terminal.expect("still here")?;
    let (text, status) = terminal.finish()?;
    assert_eq!(status.code(), Some(255));
    assert!(text.contains("this job ends in 1s: nobody does anything"), "{text}");
    assert!(text.contains("the agent ends: nobody did anything for 3s"), "{text}");
    agent.ends_with(0)?;
    Ok(())
}

fn key_after_a_warning_keeps_the_job(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    // A minute to type on a slow machine.
    let mut agent = start(setup, &mut command, &["--idle-timeout", "63s", "--warn", "60s"])?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("echo begun-and-not-en")?;
    terminal.expect("echo begun-and-not-en")?;
    terminal.expect("press a key, or run: converge-agent extend 1h\r\n")?;
    // The prompt and what was typed are there again, below the warning.
    terminal.expect("job> echo begun-and-not-en")?;
    terminal.type_text("ded")?;
    terminal.expect("the job stays open; it ends in 1m")?;
    terminal.expect(" at the earliest (nobody does anything)\r\n")?;
    terminal.expect("job> echo begun-and-not-ended")?;
    terminal.type_text("\r")?;
    terminal.expect("begun-and-not-ended\r\n")?;
    terminal.type_text("exit 5\r")?;
    assert_eq!(terminal.finish()?.1.code(), Some(5));
    agent.ends_with(0)?;
    Ok(())
}

fn hold_file_with_a_time_in_the_future_stretches_it(setup: &mut Setup) -> Result<()> {
    let (job, directory) = (setup.new_job("held")?, setup.path().join("agent-dir"));
    fs::create_dir(&directory)?;
    let hold = fs::File::create(directory.join(".hold"))?;
    hold.set_modified(SystemTime::now() + Duration::from_secs(4))?;
    let mut command = setup.agent_command(&job)?;
    let begun = Instant::now();
    let mut agent = start(
        setup,
        command.arg("--dir").arg(&directory),
        &["--first-timeout", "1s", "--idle-timeout", "2s"],
    )?;
    // Somebody comes and goes; it is held.
    run(setup.openssh_to("ssh", &agent.address)?.arg("true"), b"")?.success()?;
    agent.ends_with(0)?;
    assert!(begun.elapsed() >= Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(agent.process.log().contains("nobody did anything for 2s"), "{}", agent.process.log());
    Ok(())
}

fn last_user_out_ends_the_job(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let mut agent = start(setup, &mut command, &["--timeout-status", "75"])?;
    let (mut first, second) = (shell(setup, &agent)?, shell(setup, &agent)?);
    second.type_text("exit\r")?;
    assert_eq!(second.finish()?.1.code(), Some(0));
    first.expect(" left; 1 here now")?;
    first.type_text("exit\r")?;
    assert_eq!(first.finish()?.1.code(), Some(0));
    agent.ends_with(0)?;
    assert!(agent.process.log().contains("the last user has left"), "{}", agent.process.log());
    Ok(())
}

fn cancelled_job_tells_its_users(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let mut agent = start(setup, &mut command, &[])?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("sleep 1000 & echo pid $! .\r")?;
    terminal.expect("\r\npid ")?;
    let child: u32 = terminal.expect(" .\r\n")?.parse()?;
    terminal.expect("job> ")?;
    agent.process.signal(Signal::TERM)?;
    terminal.expect("converge: this job was cancelled; it ends in 2s")?;
    let (text, status) = terminal.finish()?;
    assert!(text.contains("the agent ends: the job was cancelled"), "{text}");
    assert_eq!(status.code(), Some(255));
    agent.ends_with(143)?;
    eventually("the end of what ran", || (!is_running(child)).then_some(()))
}

fn tunnels_and_transfers_hear_of_it_from_the_client(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("tunnel")?;
    let mut command = setup.agent_command(&job)?;
    let agent = start(setup, &mut command, &["--idle-timeout", "3s", "--warn", "2s"])?;
    let mut tunnel =
        Process::start("tunnel", setup.openssh_to("ssh", &agent.address)?.arg("-N"), setup.path())?;
    tunnel.wait_for_log("the warning", |log| {
        log.contains("converge: this job ends in 2s: nobody does anything")
    })?;
    tunnel.wait_for_log("the reason", |log| log.contains("the agent ends: nobody did anything for 3s"))?;
    assert_eq!(tunnel.wait()?.code(), Some(255));
    Ok(())
}

fn users_hear_of_each_other(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let agent = start(setup, &mut command, &[])?;
    let mut first = shell(setup, &agent)?;
    let mut second = Terminal::open(setup.openssh_to("ssh", &agent.address)?, 24, 80)?;
    let greeting = second.expect("job> ")?;
    assert!(greeting.contains("Also here: "), "{greeting}");
    assert!(greeting.contains("It ends when the last user leaves"), "{greeting}");
    first.expect(" joined; 2 here now")?;
    // A transfer is a user, too.
    let mut sftp = setup.openssh_to("sftp", &agent.address)?;
    run(sftp.args(["-b", "-"]), b"pwd\n")?;
    for terminal in [&mut first, &mut second] {
        terminal.expect(" joined; 3 here now")?;
        terminal.expect(" left; 2 here now")?;
    }
    Ok(())
}

fn job_is_asked_and_told_from_inside(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("inside")?;
    let inside = |agent: &Agent, line: &str| run(setup.openssh_to("ssh", &agent.address)?.arg(line), b"");
    let status = |agent: &Agent, line: &str| -> Result<Value> {
        Ok(serde_json::from_str(&inside(agent, line)?.success()?.text())?)
    };
    for (line, code) in [("resume", 0), ("fail 9", 9), ("fail", 1)] {
        let mut command = setup.agent_command(&job)?;
        let mut agent =
            start(setup, command.arg("--hold"), &["--idle-timeout", "10m", "--max-lifetime", "3h"])?;
        let now = status(&agent, "converge-agent status --json")?;
        assert_eq!(now["id"], agent.id);
        assert_eq!((&now["held"], now["users"][0]["you"].as_bool()), (&Value::Bool(true), Some(true)));
        assert_eq!(now["ends"]["clock"], "idle");
        let held = status(&agent, "converge-agent hold 1h --json")?;
        let seconds = held["ends"]["seconds"].as_u64().context("a number")?;
        assert!((69 * 60..=70 * 60).contains(&seconds), "{held}");
        let extended = status(&agent, "converge-agent extend 2h --json")?;
        assert!(extended["ends"]["seconds"].as_u64() > Some(115 * 60), "{extended}");
        // Not beyond the hard cap.
        let capped = status(&agent, "converge-agent extend 5h --json")?;
        assert_eq!(capped["ends"]["clock"], "lifetime", "{capped}");
        let text = inside(&agent, "converge-agent status")?.success()?.text();
        assert!(text.contains("(you)") && text.contains("it is held"), "{text}");
        let wrong = inside(&agent, "converge-agent extend soon; converge-agent rerun")?;
        assert_eq!(wrong.status.code(), Some(1), "{}", wrong.stderr);
        assert!(wrong.stderr.contains("write 90s, 10m or 1h30m"), "{}", wrong.stderr);
        assert!(wrong.stderr.contains("no command was run"), "{}", wrong.stderr);
        inside(&agent, &format!("converge-agent {line}"))?;
        agent.ends_with(code)?;
    }
    let outside = run(setup.agent_program()?.arg("status"), b"")?;
    assert_eq!(outside.status.code(), Some(1));
    assert!(outside.stderr.contains("inside a session"), "{}", outside.stderr);
    Ok(())
}

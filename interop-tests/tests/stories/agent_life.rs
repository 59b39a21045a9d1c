//! How an agent begins, whose ID it has, and how it ends.

use anyhow::Result;
use converge_interop_tests::{
    Agent, Process, Setup,
    process::{Leftover, eventually, is_running, run},
};
use rustix::process::Signal;
use std::{fs, path::PathBuf};

on_both_carriers! {
    agent_without_a_key_says_how_to_add_one,
    stopped_agent_leaves_nothing_behind,
    program_that_ignores_signals_ends_with_the_agent,
    id_of_another_key_is_not_taken,
    same_key_takes_its_id_over,
    client_waits_for_an_agent_that_starts_later,
}

fn agent_without_a_key_says_how_to_add_one(setup: &mut Setup) -> Result<()> {
    let job = setup.path().join("nobody");
    fs::create_dir(&job)?;
    let refused = |option: &[&str]| -> Result<String> {
        let output = run(setup.agent_command(&job)?.args(option), b"")?;
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        assert!(output.stdout.is_empty());
        Ok(output.stderr)
    };
    let missing = refused(&[])?;
    assert!(missing.contains("no key may log in") && missing.contains(".authorized_keys"), "{missing}");
    assert!(missing.contains("cat ~/.ssh/id_ed25519.pub >> "), "{missing}");
    fs::write(job.join(".authorized_keys"), "ssh-ed25519 nonsense\n")?;
    let senseless = refused(&[])?;
    assert!(senseless.contains(".authorized_keys:1: "), "{senseless}");
    let directory = refused(&["--authorized-keys", "."])?;
    assert!(directory.contains("not a regular file"), "{directory}");
    Ok(())
}

fn stopped_agent_leaves_nothing_behind(setup: &mut Setup) -> Result<()> {
    let (job, temporary) = (setup.new_job("ending")?, setup.path().join("tmp"));
    fs::create_dir(&temporary)?;
    let mut command = setup.agent_command(&job)?;
    command.env("TMPDIR", &temporary);
    let mut agent = Agent::start_as("ending", &mut command, setup.path())?;
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    ssh.arg("sleep 1000 & echo $!; echo $$; echo $agentdir; wait");
    let mut session = Process::start("session", &mut ssh, setup.path())?;
    let mut line = || session.wait_for("a line", |line| Some(line.to_owned()));
    let (child, shell, directory): (u32, u32, _) =
        (line()?.parse()?, line()?.parse()?, PathBuf::from(line()?));
    assert_eq!(directory.parent(), Some(temporary.as_path()));
    assert!(directory.is_dir() && is_running(child) && is_running(shell));

    agent.process.signal(Signal::TERM)?;
    assert_eq!(agent.process.wait()?.code(), Some(143));
    assert_eq!(fs::read_dir(&temporary)?.count(), 0);
    assert!(!is_running(shell), "the shell is waited for");
    eventually("the child's end", || (!is_running(child)).then_some(()))?;
    assert!(!session.wait()?.success());
    let left: Vec<_> = fs::read_dir(&job)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    assert_eq!(left, [".authorized_keys"]);

    // The ID is free at once.
    let output = run(setup.converge()?.args(["proxy", &agent.address]), b"")?;
    assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
    Ok(())
}

fn program_that_ignores_signals_ends_with_the_agent(setup: &mut Setup) -> Result<()> {
    let mut ssh = setup.openssh("ssh")?;
    ssh.arg("trap '' HUP TERM; echo $$; while :; do sleep 1; done");
    let mut session = Process::start("session", &mut ssh, setup.path())?;
    let stubborn = session.wait_for("a process ID", |line| line.parse().ok())?;
    let stubborn = Leftover(stubborn);
    setup.agent.process.signal(Signal::TERM)?;
    assert_eq!(setup.agent.process.wait()?.code(), Some(143));
    assert!(!is_running(stubborn.0), "a program outlives the agent");
    Ok(())
}

fn id_of_another_key_is_not_taken(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("newcomer")?;
    let mut command = setup.agent_command(&job)?;
    let newcomer = Agent::start_as("newcomer", command.args(["--id", &setup.agent.id]), setup.path())?;
    assert_ne!(newcomer.id, setup.agent.id);
    newcomer.process.wait_for_log("that the ID is another", |log| {
        log.contains("another ID than the wanted one") && log.contains(&setup.agent.id)
    })?;
    for (address, job) in [(&setup.agent.address, setup.job()), (&newcomer.address, job)] {
        let output = run(setup.openssh_to("ssh", address)?.arg("pwd"), b"")?.success()?;
        assert_eq!(output.text().trim(), job.canonicalize()?.display().to_string());
    }
    Ok(())
}

fn same_key_takes_its_id_over(setup: &mut Setup) -> Result<()> {
    let (job, directory) = (setup.new_job("again")?, setup.path().join("kept"));
    let start = |name: &str| -> Result<Agent> {
        let mut command = setup.agent_command(&job)?;
        command.args(["--id", "kept-id", "--dir"]).arg(&directory);
        Agent::start_as(name, &mut command, setup.path())
    };
    let mut first = start("first")?;
    let second = run(setup.agent_command(&job)?.arg("--dir").arg(&directory), b"")?;
    assert!(second.stderr.contains("another agent is using"), "{}", second.stderr);
    // Without a goodbye: the relay may believe for a while that the first is still there.
    first.process.signal(Signal::KILL)?;
    first.process.wait()?;
    let second = start("second")?;
    assert_eq!((&second.id, &second.address), (&"kept-id".to_owned(), &first.address));
    run(setup.openssh_to("ssh", &first.address)?.arg("true"), b"")?.success()?;
    Ok(())
}

fn client_waits_for_an_agent_that_starts_later(setup: &mut Setup) -> Result<()> {
    let (job, directory) = (setup.new_job("late")?, setup.path().join("kept"));
    let start = |name: &str| -> Result<Agent> {
        let mut command = setup.agent_command(&job)?;
        command.args(["--id", "late-id", "--dir"]).arg(&directory);
        Agent::start_as(name, &mut command, setup.path())
    };
    let mut agent = start("early")?;
    let address = agent.address.clone();
    agent.process.signal(Signal::TERM)?;
    agent.process.wait()?;

    let mut ssh = setup.converge()?;
    ssh.args(["ssh", "--wait", "50s", &address]).args(setup.ssh_options()).arg("echo in");
    let mut waiting = Process::start("waiting", &mut ssh, setup.path())?;
    waiting.wait_for_log("that it waits", |log| log.contains("waiting for up to 50s"))?;
    let _agent = start("late")?;
    waiting.wait_for("a login", |line| (line == "in").then_some(()))?;
    assert!(waiting.wait()?.success());

    let over = run(
        setup.converge()?.args(["--wait", "10ms", "proxy", &address.replace("late-id", "no-such-id")]),
        b"",
    )?;
    assert_eq!(over.status.code(), Some(3), "{}", over.stderr);
    Ok(())
}

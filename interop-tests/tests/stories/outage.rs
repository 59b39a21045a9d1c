//! A relay that goes and comes back in the middle of what people do.

use super::shell::{job_with_prompt, shell};
use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Process, Relay, Setup, files,
    process::{eventually, run},
    programs,
};
use rustix::process::Signal;
use std::{fs, path::Path, process::Command};

on_both_carriers! {
    transfers_go_on_over_a_relay_that_is_killed_and_one_that_is_stopped,
    nothing_typed_is_lost_or_doubled_over_a_restart,
    local_port_survives_a_restart,
    outage_is_two_lines_and_none_when_quiet,
    escape_character_ends_a_session_without_a_relay,
    signal_ends_a_proxy_without_a_relay,
}

/// What a session says when it stalls, and when it goes on.
const STALLED: &str = "converge: no answer for ";
const BACK: &str = "converge: back after ";

/// Ends the relay with a signal and waits until it is gone. Returns where it was listening.
fn end_relay(setup: &mut Setup, signal: Signal) -> Result<String> {
    setup.relay.process.signal(signal)?;
    setup.relay.process.wait()?;
    let url = setup.relay.url.strip_prefix("https://").context("an https URL")?;
    Ok(url.split_once('#').map_or(url, |(authority, _)| authority).to_owned())
}

/// The same, and starts another on its port with its state.
fn restart_relay(setup: &mut Setup, signal: Signal) -> Result<()> {
    let authority = end_relay(setup, signal)?;
    setup.relay = Relay::start_on(setup.path(), &authority)?;
    Ok(())
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn transfers_go_on_over_a_relay_that_is_killed_and_one_that_is_stopped(setup: &mut Setup) -> Result<()> {
    const BYTES: u64 = 24 * 1024 * 1024;
    let (here, there, back) =
        (setup.path().join("here"), setup.job().join("there"), setup.path().join("back"));
    files::write_random(&here, BYTES)?;
    let mut sftp = setup.openssh("sftp")?;
    // In kbit/s, so that there is a middle of the transfer to do something in.
    let mut sftp = Process::start_with_input("sftp", sftp.args(["-l", "60000", "-b", "-"]), setup.path())?;
    for (command, target) in [("put here there", &there), ("get there back", &back)] {
        sftp.write_line(command)?;
        for (part, signal) in [(BYTES / 4, Signal::KILL), (BYTES / 2, Signal::TERM)] {
            eventually("a part of the file", || (len(target) >= part).then_some(()))?;
            assert!(len(target) < BYTES, "it was over before it began");
            restart_relay(setup, signal)?;
        }
        eventually("the whole file", || (len(target) == BYTES).then_some(()))?;
    }
    sftp.end_input();
    assert!(sftp.wait()?.success());
    let wanted = files::sha256(&here)?;
    assert_eq!(files::sha256(&there)?, wanted);
    assert_eq!(files::sha256(&back)?, wanted);
    Ok(())
}

fn nothing_typed_is_lost_or_doubled_over_a_restart(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let mut terminal = shell(setup, &agent)?;
    terminal.type_text("n=0; next() { n=$((n+1)); echo \"<$n $1>\"; }\r")?;
    terminal.expect("job> ")?;
    let mut number = 0;
    for signal in [Signal::KILL, Signal::TERM] {
        let authority = end_relay(setup, signal)?;
        for _ in 0..5 {
            number += 1;
            terminal.type_text(&format!("next typed-{number}\r"))?;
        }
        setup.relay = Relay::start_on(setup.path(), &authority)?;
        for answer in number - 4..=number {
            let before = terminal.expect(&format!("<{answer} typed-{answer}>"))?;
            assert!(!before.contains('<'), "something else came: {before:?}");
        }
    }
    terminal.type_text("exit 3\r")?;
    assert_eq!(terminal.finish()?.1.code(), Some(3));
    Ok(())
}

fn local_port_survives_a_restart(setup: &mut Setup) -> Result<()> {
    let mut listen = setup.converge()?;
    listen.args(["listen", &setup.agent.address, "--listen", "127.0.0.1:0"]);
    let mut listen = Process::start("listen", &mut listen, setup.path())?;
    let address =
        listen.wait_for("its address", |line| line.strip_prefix("listening on ").map(str::to_owned))?;
    let (_, port) = address.rsplit_once(':').context("a port")?;
    let ssh = || -> Result<Command> {
        let mut ssh = Command::new(programs::installed("ssh")?);
        let line = run(setup.converge()?.args(["host-key", &setup.agent.address]), b"")?.success()?.text();
        let (_, key) = line.trim().split_once(' ').context("a known_hosts line")?;
        let known = format!("KnownHostsCommand=/bin/echo job {key}");
        ssh.args(setup.ssh_options()).args(["-p", port, "-o", "HostKeyAlias=job", "-o", &known, "127.0.0.1"]);
        Ok(ssh)
    };
    let mut session = Process::start_with_input("session", ssh()?.arg("cat"), setup.path())?;
    let later = ssh()?;
    for (signal, word) in [(Signal::KILL, "after a kill"), (Signal::TERM, "after a stop")] {
        session.write_line("before")?;
        session.wait_for("an echo", |line| (line == "before").then_some(()))?;
        restart_relay(setup, signal)?;
        session.write_line(word)?;
        session.wait_for("the next echo and nothing else", |line| {
            assert_eq!(line, word);
            Some(())
        })?;
    }
    session.end_input();
    assert!(session.wait()?.success());
    // And new connections are served as before.
    let mut later = later;
    assert_eq!(run(later.arg("echo in"), b"")?.success()?.text(), "in\n");
    Ok(())
}

fn outage_is_two_lines_and_none_when_quiet(setup: &mut Setup) -> Result<()> {
    let mut loud = setup.openssh("ssh")?;
    let mut loud = Process::start_with_input("loud", loud.arg("cat"), setup.path())?;
    let mut quiet = setup.converge()?;
    quiet.args(["ssh", "-q", &setup.agent.address]).args(setup.ssh_options()).arg("cat");
    let mut quiet = Process::start_with_input("quiet", &mut quiet, setup.path())?;
    let works = |session: &mut Process, word: &str| -> Result<()> {
        session.write_line(word)?;
        session.wait_for("an echo", |line| (line == word).then_some(()))
    };
    works(&mut loud, "before")?;
    works(&mut quiet, "before")?;
    let authority = end_relay(setup, Signal::KILL)?;
    loud.wait_for_log("that it stalls", |log| log.contains(STALLED))?;
    setup.relay = Relay::start_on(setup.path(), &authority)?;
    loud.wait_for_log("that it goes on", |log| log.contains(BACK))?;
    for session in [&mut loud, &mut quiet] {
        works(session, "after")?;
        session.end_input();
        assert!(session.wait()?.success());
    }
    let log = loud.log();
    // That the other one came is not about the outage.
    let lines: Vec<_> = log.lines().filter(|line| !line.ends_with(" here now")).collect();
    let [stalled, back] = &lines[..] else { panic!("{lines:?}") };
    assert!(stalled.starts_with(STALLED) && stalled.ends_with("(~. ends it now)"), "{stalled}");
    assert!(back.starts_with(BACK) && back.ends_with(&format!("over {}", setup.carrier)), "{back}");
    assert_eq!(quiet.log(), "");
    Ok(())
}

fn escape_character_ends_a_session_without_a_relay(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let mut terminal = shell(setup, &agent)?;
    end_relay(setup, Signal::KILL)?;
    terminal.expect(STALLED)?;
    // Far sooner than the session would be given up.
    terminal.type_text("\r~.")?;
    let (_, status) = terminal.finish()?;
    assert_eq!(status.code(), Some(255));
    Ok(())
}

fn signal_ends_a_proxy_without_a_relay(setup: &mut Setup) -> Result<()> {
    let mut proxy = setup.converge()?;
    proxy.args(["proxy", &setup.agent.address]);
    let mut proxy = Process::start_with_input("proxy", &mut proxy, setup.path())?;
    proxy.wait_for("the agent's first line", |line| line.starts_with("SSH-2.0-").then_some(()))?;
    end_relay(setup, Signal::KILL)?;
    proxy.wait_for_log("that it stalls", |log| log.contains(STALLED))?;
    proxy.signal(Signal::TERM)?;
    // Far sooner than the session would be given up.
    assert_eq!(proxy.wait()?.code(), Some(0));
    Ok(())
}

//! An agent and people who were given two relays that know nothing of each other, and one of them goes.

use anyhow::{Context, Result};
use converge_interop_tests::{Agent, Process, Relay, Setup, process::run};
use rustix::process::Signal;
use std::{fs, process::Command};

on_both_carriers! {
    session_goes_on_over_the_other_relay_when_its_own_is_killed,
    session_goes_on_over_the_other_relay_when_its_own_stops,
    person_is_told_what_each_relay_met,
}

/// Two relays, an agent that is on one of them, and what it said to copy.
struct Two {
    relays: [Relay; 2],
    list: String,
    agent: Process,
    /// `ID.FINGERPRINT`.
    short: String,
}

impl Two {
    fn start(setup: &Setup) -> Result<Self> {
        let start = |name: &str| -> Result<Relay> {
            let directory = setup.path().join(name);
            fs::create_dir(&directory)?;
            Relay::start_as(name, &mut Relay::command(&directory, "127.0.0.1:0")?, setup.path())
        };
        let relays = [start("relay-one")?, start("relay-two")?];
        let list = format!("{},{}", relays[0].url, relays[1].url);
        let mut command = Agent::command(&setup.new_job("job-of-two")?, &list)?;
        command.args(["--transport", &setup.carrier.to_string()]);
        let mut agent = Process::start("agent-of-two", &mut command, setup.path())?;
        let line = agent.wait_for("a line to copy", |line| {
            line.trim().strip_prefix("converge ssh --relay '").map(str::to_owned)
        })?;
        let (shown, short) = line.split_once("' ").context("a list and an address")?;
        assert_eq!(shown, list, "all relays are in the line");
        Ok(Self { relays, short: short.to_owned(), list, agent })
    }

    /// `HOST:PORT` of both.
    fn authorities(&self) -> Result<[String; 2]> {
        let authority = |relay: &Relay| {
            let url = relay.url.strip_prefix("https://").context("an https URL")?;
            anyhow::Ok(url.split_once('#').map_or(url, |(authority, _)| authority).to_owned())
        };
        Ok([authority(&self.relays[0])?, authority(&self.relays[1])?])
    }

    /// The number of the relay that the agent registered with last, and how often it has registered.
    fn registered(&self) -> Result<(usize, usize)> {
        let (log, authorities) = (self.agent.log(), self.authorities()?);
        let lines: Vec<_> = log.lines().filter(|line| line.contains("registered id=")).collect();
        let last = lines.last().context("a registration")?;
        let relay = authorities.iter().position(|authority| last.contains(&format!("relay={authority}")));
        Ok((relay.context("the relay is named")?, lines.len()))
    }

    fn ssh(&self, setup: &Setup) -> Result<Command> {
        let mut command = setup.converge()?;
        command.args(["ssh", "--relay", &self.list, &self.short]).args(setup.ssh_options());
        Ok(command)
    }
}

fn session_goes_on_over_the_other_relay_when_its_own_is_killed(setup: &mut Setup) -> Result<()> {
    goes_on_elsewhere(setup, Signal::KILL)
}

fn session_goes_on_over_the_other_relay_when_its_own_stops(setup: &mut Setup) -> Result<()> {
    goes_on_elsewhere(setup, Signal::TERM)
}

fn goes_on_elsewhere(setup: &mut Setup, signal: Signal) -> Result<()> {
    let mut two = Two::start(setup)?;
    let mut ssh = two.ssh(setup)?;
    ssh.arg("echo $$; while read word; do echo $word; done; exit 7");
    let mut session = Process::start_with_input("session", &mut ssh, setup.path())?;
    let shell: u32 = session.wait_for("the shell's number", |line| line.parse().ok())?;
    session.write_line("before")?;
    session.wait_for("an echo", |line| (line == "before").then_some(()))?;

    let (here, _) = two.registered()?;
    two.relays[here].process.signal(signal)?;
    let is_back = |log: &str| log.matches("registered id=").count() == 2;
    two.agent.wait_for_log("that the agent is on the other relay", is_back)?;
    session.write_line("after")?;
    session.wait_for("the next echo and nothing else", |line| {
        assert_eq!(line, "after");
        Some(())
    })?;
    let (there, times) = two.registered()?;
    assert_eq!((there, times), (1 - here, 2), "{}", two.agent.log());
    two.relays[here].process.wait()?;
    session.write_line("and on")?;
    session.wait_for("an echo", |line| (line == "and on").then_some(()))?;
    session.end_input();
    assert_eq!(session.wait()?.code(), Some(7), "the shell {shell} of before");

    // The line of before still works, and so does the rest, each of them several times: who is asked first is chance.
    for _ in 0..3 {
        assert_eq!(run(two.ssh(setup)?.arg("echo in"), b"")?.success()?.text(), "in\n");
        let mut host_key = setup.converge()?;
        host_key.args(["host-key", "--relay", &two.list, &two.short]);
        assert!(run(&mut host_key, b"")?.success()?.text().contains(" ssh-ed25519 "));
        let mut list = setup.converge()?;
        list.args(["list", "--relay", &two.list, "--json"]);
        let (id, _) = two.short.split_once('.').context("an ID")?;
        assert!(run(&mut list, b"")?.success()?.text().contains(&format!("\"{id}\"")));
    }
    let mut doctor = setup.converge()?;
    let found = run(doctor.args(["doctor", &two.list, "--json"]), b"")?.success()?.text();
    let found: serde_json::Value = serde_json::from_str(&found)?;
    let reached: Vec<_> =
        found.as_array().context("a list")?.iter().map(|report| !report["carrier"].is_null()).collect();
    assert_eq!(reached, [here != 0, here != 1], "{found}");
    Ok(())
}

fn person_is_told_what_each_relay_met(setup: &mut Setup) -> Result<()> {
    let mut two = Two::start(setup)?;
    // Both are there and neither has it; then none is there.
    let mut missing = setup.converge()?;
    missing.args(["proxy", "--relay", &two.list, "nobody"]);
    let nobody = run(&mut missing, b"")?;
    assert_eq!(nobody.status.code(), Some(3), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("no agent has the ID nobody"), "{}", nobody.stderr);
    let [one, other] = two.authorities()?;
    for relay in &mut two.relays {
        relay.process.signal(Signal::KILL)?;
        relay.process.wait()?;
    }
    let mut gone = setup.converge()?;
    let gone = run(gone.args(["proxy", "--relay", &two.list, &two.short]), b"")?;
    assert_eq!(gone.status.code(), Some(4), "{}", gone.stderr);
    let words = format!("none of the 2 relays can be used: {one} and {other}: ");
    assert!(gone.stderr.contains(&words), "{}", gone.stderr);
    let wrong = run(setup.converge()?.args(["proxy", "--relay", "https://a,b", "nobody"]), b"")?;
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("URL 2 of 2: a relay URL starts with https://"), "{}", wrong.stderr);
    Ok(())
}

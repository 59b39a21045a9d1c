//! What an operator sees of a relay and asks of its agents, with `converge list`, `stop`, `extend`, `message` and
//! `reserve`, and with the API's own description.

use super::{
    shell::{job_with_prompt, shell},
    tidy::Tidy,
};
use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Process, Setup,
    process::{Output, eventually, run},
    programs,
};
use serde_json::Value;
use std::process::Command;

on_both_carriers! {
    list_shows_agents_and_sessions,
    users_read_a_message_and_the_reason_of_a_stop,
    extending_moves_the_clock,
    many_are_asked_at_once_and_each_is_answered,
    list_changes_as_things_happen,
    reserved_id_is_for_its_bearer_alone,
    tokens_have_scopes,
}

/// `converge` with the relay's URL; the subcommand follows.
fn operator(setup: &Setup, arguments: &[&str]) -> Result<Output> {
    run(setup.converge()?.args(["--relay", &setup.relay.url]).args(arguments), b"")
}

fn listing(setup: &Setup) -> Result<Value> {
    Ok(serde_json::from_str(&operator(setup, &["list", "--json"])?.success()?.text())?)
}

/// The entry of this agent.
fn entry(listing: &Value, id: &str) -> Option<Value> {
    listing["agents"].as_array()?.iter().find(|agent| agent["id"] == id).cloned()
}

fn list_shows_agents_and_sessions(setup: &mut Setup) -> Result<()> {
    let id = setup.agent.id.clone();
    assert_eq!(listing(setup)?["sessions"], Value::Array(vec![]));
    let mut ssh = setup.openssh("ssh")?;
    let line = "head -c 100000 /dev/zero; echo; echo in; read word";
    let mut session = Process::start_with_input("session", ssh.arg(line), setup.path())?;
    session.wait_for("a login", |line| line.ends_with("in").then_some(()))?;
    let seen = eventually("a session in the list", || {
        let listing = listing(setup).ok()?;
        let agent = entry(&listing, &id)?;
        (agent["sessions"] == 1 && agent["to_client_bytes"].as_u64()? > 100_000).then_some(listing)
    })?;
    let session_seen = &seen["sessions"][0];
    assert_eq!(session_seen["id"], *id, "{seen}");
    assert_eq!(session_seen["carrier"], setup.carrier.to_string(), "{seen}");
    assert!(session_seen["to_client_bytes"].as_u64() > Some(100_000), "{seen}");
    assert_eq!(entry(&seen, &id).context("the agent")?["address"], setup.agent.address, "{seen}");
    let table = operator(setup, &["list"])?.success()?.text();
    assert!(table.contains("AGENT") && table.contains("SESSION") && table.contains(&id), "{table}");

    session.write_line("word")?;
    assert!(session.wait()?.success());
    eventually("the end of the session in the list", || {
        (listing(setup).ok()?["sessions"].as_array()?.is_empty()).then_some(())
    })
}

fn users_read_a_message_and_the_reason_of_a_stop(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    let mut agent = Tidy::start(setup, &mut command)?;
    let mut terminal = shell(setup, &agent)?;
    let said = operator(setup, &["message", "please push your work", &agent.id])?.success()?.text();
    assert_eq!(said, format!("{} has shown it\n", agent.id));
    terminal.expect("message from the relay's operator: please push your work")?;
    // By its whole address, as it was copied.
    run(setup.converge()?.args(["stop", "--reason", "the machine is needed", &agent.address]), b"")?
        .success()?;
    terminal.expect("the relay's operator ends this job: the machine is needed")?;
    agent.ends_with(0)?;
    let again = operator(setup, &["stop", &agent.id])?;
    assert_eq!(again.status.code(), Some(3), "{}", again.stderr);
    let words = format!("converge: no agent has the ID {}; check the ID", agent.id);
    assert!(again.stderr.starts_with(&words) && again.stderr.lines().count() == 1, "{}", again.stderr);
    Ok(())
}

fn extending_moves_the_clock(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("extended")?;
    let mut command = setup.agent_command(&job)?;
    command.args(["--hold", "--idle-timeout", "10m", "--max-lifetime", "3h"]);
    let agent = Agent::start_as("extended", &mut command, setup.path())?;
    let status = || -> Result<u64> {
        let mut ssh = setup.openssh_to("ssh", &agent.address)?;
        let status = run(ssh.arg("converge-agent status --json"), b"")?.success()?.text();
        serde_json::from_str::<Value>(&status)?["ends"]["seconds"].as_u64().context("a number")
    };
    assert!(status()? <= 600);
    operator(setup, &["extend", "2h", &agent.id])?.success()?;
    assert!(status()? > 115 * 60);
    Ok(())
}

fn many_are_asked_at_once_and_each_is_answered(setup: &mut Setup) -> Result<()> {
    let mut other = Agent::command(&setup.new_job("other")?, &setup.relay.url)?;
    let other = Agent::start_as("other", &mut other, setup.path())?;
    let (first, second) = (setup.agent.id.clone(), other.id.clone());
    let asked = operator(setup, &["message", "hello", &first, "nobody", &second])?;
    assert_eq!(asked.status.code(), Some(3), "{}", asked.stderr);
    assert_eq!(asked.text(), format!("{first} has shown it\n{second} has shown it\n"));
    assert!(asked.stderr.contains("no agent has the ID nobody"), "{}", asked.stderr);
    assert!(asked.stderr.contains("1 of 3 were not done"), "{}", asked.stderr);
    Ok(())
}

fn list_changes_as_things_happen(setup: &mut Setup) -> Result<()> {
    let mut watch = setup.converge()?;
    watch.args(["--relay", &setup.relay.url, "list", "--watch", "--json"]);
    let mut watch = Process::start("watch", &mut watch, setup.path())?;
    let has = |line: &str, id: &str| {
        serde_json::from_str::<Value>(line).is_ok_and(|listing| entry(&listing, id).is_some())
    };
    let first = setup.agent.id.clone();
    watch.wait_for("the list", |line| has(line, &first).then_some(()))?;
    let mut other = Agent::command(&setup.new_job("other")?, &setup.relay.url)?;
    let mut other = Agent::start_as("other", &mut other, setup.path())?;
    watch.wait_for("the newcomer", |line| has(line, &other.id).then_some(()))?;
    operator(setup, &["stop", &other.id])?.success()?;
    other.process.wait()?;
    watch.wait_for("the end of it", |line| (!has(line, &other.id)).then_some(()))?;
    Ok(())
}

fn reserved_id_is_for_its_bearer_alone(setup: &mut Setup) -> Result<()> {
    let printed = operator(setup, &["reserve", "nightly", "--for", "10m"])?.success()?.text();
    let token = printed.lines().find_map(|line| line.strip_prefix("CONVERGE_TOKEN=")).context("a token")?;
    assert!(printed.contains("CONVERGE_ID=nightly\n"), "{printed}");
    let second = operator(setup, &["reserve", "nightly"])?;
    assert_eq!(second.status.code(), Some(5), "{}", second.stderr);

    let start = |name: &str, token: Option<&str>| -> Result<Agent> {
        let mut command = setup.agent_command(&setup.new_job(name)?)?;
        command.args(["--id", "nightly"]);
        if let Some(token) = token {
            command.env("CONVERGE_TOKEN", token);
        }
        Agent::start_as(name, &mut command, setup.path())
    };
    let stranger = start("stranger", None)?;
    assert_ne!(stranger.id, "nightly");
    let bearer = start("bearer", Some(token))?;
    assert_eq!(bearer.id, "nightly");
    let thief = start("thief", Some(token))?;
    assert_ne!(thief.id, "nightly");
    Ok(())
}

fn tokens_have_scopes(setup: &mut Setup) -> Result<()> {
    let file = setup.path().join("tokens.toml");
    let token = |name: &str, scope: &str, more: &[&str]| -> Result<String> {
        let mut command = Command::new(programs::own("converge-relay")?);
        converge_interop_tests::setup::clean(&mut command);
        command
            .args(["token", "create", "--name", name, "--scope", scope, "--tokens-file"])
            .arg(&file)
            .args(more);
        Ok(run(&mut command, b"")?.success()?.text().trim().to_owned())
    };
    let reader = token("reader", "api:read", &[])?;
    let writer = token("writer", "api:write", &[])?;
    let team = token("team", "api:write", &["--id-pattern", "team-*"])?;
    let over = token("over", "api:write", &["--expires", "0s"])?;
    let mut relay = Command::new(programs::own("converge-relay")?);
    converge_interop_tests::setup::clean(&mut relay);
    relay.args(["--listen", "127.0.0.1:0", "--state-dir"]).arg(setup.path().join("guarded"));
    relay.arg("--tokens-file").arg(&file);
    let mut relay = Process::start("guarded", &mut relay, setup.path())?;
    let url = relay.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    let mut agent = Agent::command(&setup.job(), &url)?;
    let agent = Agent::start_as("guarded-agent", agent.args(["--id", "other"]), setup.path())?;

    let ask = |token: &str, arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let mut command = setup.converge()?;
        command.args(["--relay", &url]).args(arguments).env("CONVERGE_TOKEN", token);
        let output = run(&mut command, b"")?;
        Ok((output.status.code(), output.text() + output.stderr.as_str()))
    };
    for (token, arguments, status, words) in [
        ("", &["list"][..], 5, "wants a token"),
        ("cvg_wrong", &["list"], 5, "does not know the token"),
        (&over, &["list"], 5, "has expired"),
        (&reader, &["list"], 0, "other"),
        (&reader, &["message", "x", "other"], 5, "this needs api:write"),
        (&writer, &["list"], 0, "other"),
        (&team, &["list"], 0, "no agents"),
        (&team, &["message", "x", "other"], 5, "is for team-*"),
        (&team, &["reserve", "other-2"], 5, "is for team-*"),
        (&writer, &["message", "x", &agent.address], 0, "has shown it"),
    ] {
        let (seen, said) = ask(token, arguments)?;
        assert_eq!(seen, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(token.is_empty() || !said.contains(token), "{said}");
    }
    Ok(())
}

mod description {
    use super::{Agent, Command, Process, Result, Value, programs, run};
    use anyhow::Context;
    use converge_interop_tests::{Carrier, Setup, setup::clean};
    use std::fs;

    /// The description is valid, and random requests that follow it, and random ones that do not, are answered as it
    /// says: by a real relay with real agents, which some of the requests stop. The stream of events is asked for by a
    /// header only, which these requests do not set; it has its own tests.
    #[test]
    fn holds_for_random_requests() -> Result<()> {
        let setup = Setup::start(Carrier::Quic)?;
        let mut token = Command::new(programs::own("converge-relay")?);
        let file = setup.path().join("tokens.toml");
        let arguments = ["token", "create", "--name", "tester", "--scope", "api:write", "--tokens-file"];
        let token = run(clean(&mut token).args(arguments).arg(&file), b"")?.success()?.text();
        let mut relay = Command::new(programs::own("converge-relay")?);
        clean(&mut relay).args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--tokens-file"]);
        relay.arg(&file).arg("--state-dir").arg(setup.path().join("tested"));
        let mut relay = Process::start("tested", &mut relay, setup.path())?;
        let url = relay.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
        let http =
            relay.wait_for("its cleartext URL", |line| line.strip_prefix("http:  ws").map(str::to_owned))?;
        let mut agents = Vec::new();
        for id in ["build", "a", "0"] {
            let mut command = Agent::command(&setup.job(), &url)?;
            agents.push(Agent::start_as(&format!("agent-{id}"), command.args(["--id", id]), setup.path())?);
        }
        let api = format!("http{http}/api/v1");

        let description = setup.path().join("openapi.json");
        let script =
            "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())";
        let mut fetch = Command::new(programs::from_pypi("python")?);
        let text = run(fetch.args(["-c", script, &format!("{api}/openapi.json")]), b"")?.success()?.text();
        fs::write(&description, &text)?;
        let parsed: Value = serde_json::from_str(&text)?;
        let operations = parsed["paths"].as_object().context("paths")?.len();
        assert!(operations >= 15, "{operations}");
        run(Command::new(programs::from_pypi("openapi-spec-validator")?).arg(&description), b"")?
            .success()?;

        let mut tester = Command::new(programs::from_pypi("schemathesis")?);
        tester
            .current_dir(setup.path())
            .args(["run", "openapi.json", "--url", &api, "--no-color"])
            // Deterministic, as long as the description and the tester stay the same.
            .args([
                "--seed",
                "20261121",
                "--generation-deterministic",
                "--max-examples",
                "8",
                "--max-time",
                "35",
            ])
            // Within the relay's own limit, which has tests of its own.
            .args(["--rate-limit", "45/s", "--checks", "all", "--exclude-checks", "positive_data_acceptance"])
            .args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
        let output = run(&mut tester, b"")?;
        assert!(output.status.success(), "{}{}", output.text(), output.stderr);
        println!("{}", output.text().lines().rev().take(12).collect::<Vec<_>>().join("\n"));
        // It is the relay that was asked, and it is there.
        assert!(relay.try_wait()?.is_none());
        Ok(())
    }
}

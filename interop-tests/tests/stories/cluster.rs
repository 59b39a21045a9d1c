//! Several relays that act as one.

use anyhow::{Result, ensure};
use converge_interop_tests::{
    Agent, Carrier, Process, Setup, Terminal,
    cluster::{Cluster, authority},
    files::{sha256, write_random},
    loopback::UdpNat,
    process::{eventually, run},
    programs,
};
use rustix::process::Signal;
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

on_both_carriers! {
    agent_is_reached_through_every_relay,
    foreign_tools_reach_an_agent_at_another_relay,
    client_waits_at_one_relay_for_an_agent_that_comes_to_another,
    id_is_the_agents_at_every_relay,
}

fn other(carrier: Carrier) -> Carrier {
    match carrier {
        Carrier::Quic => Carrier::WebSocket,
        Carrier::WebSocket => Carrier::Quic,
    }
}

/// The address of an agent as it is at another relay.
fn through(agent: &Agent, relay: &str) -> String {
    let (relay, pin) = relay.split_once('#').unwrap_or((relay, ""));
    format!("{relay}/client/{}.{}#{pin}", agent.id, agent.fingerprint())
}

fn agent_is_reached_through_every_relay(setup: &mut Setup) -> Result<()> {
    let cluster = Cluster::start(&setup.path().join("cluster"), 3, [""; 0])?;
    let job = setup.new_job("clustered")?;
    let carrier = setup.carrier;
    let agent = Agent::start(
        &job,
        setup.path(),
        cluster.url(1),
        ["--transport", &carrier.to_string(), "--id", "build"],
    )?;
    let big = setup.path().join("big");
    write_random(&big, 16 * 1024 * 1024)?;
    for relay in [1, 2, 3] {
        // The same carrier on both legs, and different ones.
        for carrier in [carrier, other(carrier)] {
            setup.carrier = carrier;
            let address = through(&agent, cluster.url(relay));
            let exec = run(setup.openssh_to("ssh", &address)?.arg("echo out; echo err >&2; exit 7"), b"")?;
            assert_eq!(exec.status.code(), Some(7), "relay {relay}: {}", exec.stderr);
            assert_eq!(exec.text(), "out\n");
            ensure!(exec.stderr.contains("err\n"), "{}", exec.stderr);

            let batch = format!("put {} big\nget big {}.back\n", big.display(), big.display());
            run(setup.openssh_to("sftp", &address)?.args(["-b", "-"]), batch.as_bytes())?.success()?;
            let back = big.with_extension("back");
            assert_eq!(sha256(&back)?, sha256(&big)?);
            fs::remove_file(back)?;
        }
    }
    setup.carrier = carrier;
    let ssh = setup.openssh_to("ssh", &through(&agent, cluster.url(3)))?;
    let mut terminal = Terminal::open(ssh, 24, 80)?;
    terminal.type_text("stty size; exit 4\r")?;
    terminal.expect("24 80")?;
    Ok(())
}

fn foreign_tools_reach_an_agent_at_another_relay(setup: &mut Setup) -> Result<()> {
    let cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
    let job = setup.new_job("clustered")?;
    let transport = setup.carrier.to_string();
    let agent =
        Agent::start(&job, setup.path(), cluster.url(1), ["--transport", &transport, "--id", "build"])?;
    // websocat on the other relay's cleartext port: a raw session.
    let websocat = programs::installed("websocat")?;
    let proxy =
        format!("ProxyCommand={} --binary {}/client/build", websocat.display(), cluster.relay(2).http);
    let mut ssh = Command::new(programs::installed("ssh")?);
    ssh.args(setup.ssh_options()).args(["-o", &proxy, "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "build", "echo in; exit 3"]);
    let output = run(&mut ssh, b"")?;
    assert_eq!((output.text(), output.status.code()), ("in\n".to_owned(), Some(3)), "{}", output.stderr);
    drop(agent);
    Ok(())
}

fn client_waits_at_one_relay_for_an_agent_that_comes_to_another(setup: &mut Setup) -> Result<()> {
    let cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
    let job = setup.new_job("clustered")?;
    let transport = setup.carrier.to_string();
    let mut ssh = setup.converge()?;
    ssh.args(["ssh", "--relay", cluster.url(2), "--wait", "50s", "build"])
        .args(setup.ssh_options())
        .arg("echo in");
    let mut waiting = Process::start("waiting", &mut ssh, setup.path())?;
    waiting.wait_for_log("that it waits", |log| log.contains("wait"))?;
    let _agent =
        Agent::start(&job, setup.path(), cluster.url(1), ["--transport", &transport, "--id", "build"])?;
    waiting.wait_for("an answer", |line| (line == "in").then_some(()))?;
    assert!(waiting.wait()?.success());
    Ok(())
}

fn id_is_the_agents_at_every_relay(setup: &mut Setup) -> Result<()> {
    let cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
    let (one, two) = (setup.new_job("one")?, setup.new_job("two")?);
    let transport = setup.carrier.to_string();
    let wanted = ["--transport", &transport, "--id", "build"];
    let mut first = Agent::start(&one, setup.path(), cluster.url(1), wanted)?;
    let second = Agent::start_as("second", Agent::command(&two, cluster.url(2))?.args(wanted), setup.path())?;
    assert_eq!(first.id, "build");
    assert_ne!(second.id, "build");
    // After a goodbye the ID is free everywhere.
    first.process.signal(Signal::TERM)?;
    first.process.wait()?;
    let third = eventually("the ID is free", || {
        let job = setup.new_job(&format!("third-{}", rand::random::<u32>())).ok()?;
        let mut command = Agent::command(&job, cluster.url(2)).ok()?;
        let third = Agent::start_as("third", command.args(wanted), setup.path()).ok()?;
        (third.id == "build").then_some(third)
    })?;
    drop((second, third));
    Ok(())
}

/// The client's address changes, so that the balancer leads its packets to another relay each time.
fn session_goes_on_at_another_address(setup: &mut Setup, forwards_packets: &str) -> Result<()> {
    let arguments = ["--cluster-forward-packets", forwards_packets];
    let cluster = Cluster::start(&setup.path().join("cluster"), 3, arguments)?;
    let (_nginx, balancer) = cluster.balancer()?;
    let job = setup.new_job("clustered")?;
    let agent = Agent::start(&job, setup.path(), cluster.url(1), ["--transport", "quic", "--id", "build"])?;
    let nat = UdpNat::before(authority(&balancer).parse()?)?;
    let address = through(&agent, &balancer.replacen(authority(&balancer), &nat.address.to_string(), 1));
    let mut ssh = setup.openssh_to("ssh", &address)?;
    let mut session = Process::start_with_input("session", ssh.arg("cat"), setup.path())?;
    let mut echo = |word: &str| -> Result<Duration> {
        let begun = Instant::now();
        session.write_line(word)?;
        session.wait_for("an echo", |line| (line == word).then_some(()))?;
        Ok(begun.elapsed())
    };
    echo("before")?;
    let mut times = Vec::new();
    for change in 0..8 {
        nat.forget()?;
        times.push(echo(&format!("change {change}"))?);
    }
    times.sort();
    println!("forwarding {forwards_packets}: echo after a change of address {times:?}");
    session.end_input();
    assert!(session.wait()?.success());
    // Eight ways to three relays are never all the same in practice.
    let (packets, resumes) =
        (cluster.metric("converge_cluster_packets_total")?, cluster.metric("converge_resumes_total")?);
    println!("{packets} packets forwarded, {resumes} times resumed");
    match forwards_packets {
        "true" => ensure!(packets > 0 && resumes == 0),
        _ => ensure!(packets == 0 && resumes > 0),
    }
    Ok(())
}

#[test]
fn packets_at_the_wrong_relay_are_forwarded() {
    crate::tell(Carrier::Quic, |setup| session_goes_on_at_another_address(setup, "true"));
}

#[test]
fn without_forwarding_the_session_resumes_after_a_reset() {
    crate::tell(Carrier::Quic, |setup| session_goes_on_at_another_address(setup, "false"));
}

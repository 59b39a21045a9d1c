//! Several relays that act as one.

use anyhow::{Context, Result, anyhow, ensure};
use converge_interop_tests::{
    Agent, Carrier, Process, Setup, Terminal,
    cluster::{Cluster, Etcd, Place, authority, through},
    files::{sha256, write_random},
    loopback::UdpNat,
    process::{eventually, run},
    programs,
};
use data_encoding::HEXLOWER;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

on_both_carriers! {
    agent_is_reached_through_every_relay,
    foreign_tools_reach_an_agent_at_another_relay,
    client_waits_at_one_relay_for_an_agent_that_comes_to_another,
    id_is_the_agents_at_every_relay,
    transfer_survives_relays_that_are_drained_and_replaced,
    transfer_survives_relays_that_are_killed_and_replaced,
    transfer_by_a_list_of_relays_survives_those_that_are_drained_and_replaced,
    transfer_by_a_list_of_relays_survives_those_that_are_killed_and_replaced,
}

fn other(carrier: Carrier) -> Carrier {
    match carrier {
        Carrier::Quic => Carrier::WebSocket,
        Carrier::WebSocket => Carrier::Quic,
    }
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
    // Each client is counted once: where it has come to.
    assert_eq!(cluster.metric("converge_connects_total")?, 13);
    assert_eq!(cluster.metric("converge_pairing_seconds_count")?, 13);
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
    let sums = || -> Result<[u64; 2]> {
        Ok([cluster.metric("converge_cluster_packets_total")?, cluster.metric("converge_resumes_total")?])
    };
    // Which relay an address leads to is chance.
    let has_happened = || sums().map(|[packets, resumes]| packets > 0 || resumes > 0);
    let mut times = Vec::new();
    while times.len() < 8 || !has_happened()? {
        ensure!(times.len() < 100, "every address leads to the same relay");
        nat.forget()?;
        times.push(echo(&format!("change {}", times.len()))?);
    }
    times.sort();
    println!("forwarding {forwards_packets}: echo after a change of address {times:?}");
    session.end_input();
    assert!(session.wait()?.success());
    let [packets, resumes] = sums()?;
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

/// How agent and client reach the relays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    /// By their URLs.
    List,
    /// By a balancer that knows nothing of them.
    Balancer,
}

fn transfer_survives_relays_that_are_drained_and_replaced(setup: &mut Setup) -> Result<()> {
    transfer_survives(setup, Front::Balancer, Cluster::drain)
}

fn transfer_survives_relays_that_are_killed_and_replaced(setup: &mut Setup) -> Result<()> {
    transfer_survives(setup, Front::Balancer, Cluster::kill)
}

fn transfer_by_a_list_of_relays_survives_those_that_are_drained_and_replaced(
    setup: &mut Setup,
) -> Result<()> {
    transfer_survives(setup, Front::List, Cluster::drain)
}

fn transfer_by_a_list_of_relays_survives_those_that_are_killed_and_replaced(setup: &mut Setup) -> Result<()> {
    transfer_survives(setup, Front::List, Cluster::kill)
}

/// 512 MiB, while each of three relays is ended and replaced, twice around.
fn transfer_survives(
    setup: &mut Setup,
    front: Front,
    end: fn(&mut Cluster, usize) -> Result<()>,
) -> Result<()> {
    const BYTES: u64 = 512 * 1024 * 1024;
    let mut cluster = Cluster::start(&setup.path().join("cluster"), 3, [""; 0])?;
    let balancer = (front == Front::Balancer).then(|| cluster.balancer()).transpose()?;
    let relays = balancer.as_ref().map_or_else(|| cluster.urls(), |(_, url)| url.clone());
    let job = setup.new_job("clustered")?;
    write_random(&job.join("big"), BYTES)?;
    let transport = setup.carrier.to_string();
    let mut agent = Agent::command(&job, &relays)?;
    agent.args(["--transport", &transport, "--id", "build"]);
    let mut agent = Process::start("clustered", &mut agent, setup.path())?;
    agent.wait_for("a line to copy", |line| line.contains("converge ssh ").then_some(()))?;
    let mut ssh = setup.converge()?;
    ssh.args(["ssh", "--relay", &relays, "build"]).args(setup.ssh_options()).arg("cat big; exit 7");
    let errors = fs::File::create(setup.path().join("transfer.log"))?;
    let mut transfer = ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?;
    let output = transfer.stdout.take().context("a pipe")?;
    let step = BYTES / 7;
    // The transfer goes on while a relay ends, and does not end before the last one has.
    let gate = Gate::default();
    gate.open_to(step);
    let reading = {
        let gate = gate.clone();
        std::thread::spawn(move || gate.read(output))
    };
    let ended: Result<()> = (|| {
        for (round, relay) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
            let half = step * round as u64 + step / 2;
            eventually("half a step", || (gate.received() >= half).then_some(()))?;
            end(&mut cluster, relay)?;
            cluster.start_relay(relay)?;
            cluster.wait_until_they_know_each_other()?;
            gate.open_to(step * (round as u64 + 2));
        }
        Ok(())
    })();
    gate.open_to(u64::MAX);
    if ended.is_err() {
        transfer.kill()?;
    }
    let hash = reading.join().map_err(|_| anyhow!("the reader has panicked"))??;
    let status = transfer.wait()?;
    ended?;
    assert_eq!(status.code(), Some(7));
    assert_eq!(hash, sha256(&job.join("big"))?);
    Ok(())
}

/// How far somebody may read, and has.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<[u64; 2]>, Condvar)>);

impl Gate {
    fn open_to(&self, bytes: u64) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)[0] = bytes;
        self.0.1.notify_all();
    }

    fn received(&self) -> u64 {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)[1]
    }

    /// The SHA-256 of all.
    fn read(&self, mut from: impl Read) -> Result<String> {
        let mut digest = Sha256::new();
        let mut block = vec![0; 256 * 1024];
        loop {
            let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.0.1.wait_while(state, |[open_to, received]| received >= open_to));
            match from.read(&mut block)? {
                0 => return Ok(HEXLOWER.encode(&digest.finalize())),
                bytes => {
                    digest.update(&block[..bytes]);
                    self.0.0.lock().unwrap_or_else(PoisonError::into_inner)[1] += bytes as u64;
                }
            }
        }
    }
}

/// What docs/operating/cluster.md promises of an etcd that is away for a minute, and of one that has lost its data.
#[test]
fn etcd_is_away_for_a_minute_and_then_loses_its_data() {
    crate::tell(Carrier::Quic, |setup| {
        let mut cluster = Cluster::start(&setup.path().join("cluster"), 2, [""; 0])?;
        let job = setup.new_job("clustered")?;
        let named = ["--transport", "quic", "--id", "build"];
        let agent = Agent::start(&job, setup.path(), cluster.url(1), named)?;
        let address = through(&agent, cluster.url(2));
        let mut session = Process::start_with_input(
            "session",
            setup.openssh_to("ssh", &address)?.arg("cat"),
            setup.path(),
        )?;
        let mut echo = |word: &str| -> Result<()> {
            session.write_line(word)?;
            session.wait_for("an echo", |line| (line == word).then_some(()))
        };
        let is_found = || -> Result<()> {
            let output = run(setup.openssh_to("ssh", &address)?.arg("echo in"), b"")?.success()?;
            ensure!(output.text() == "in\n", "{}", output.stderr);
            Ok(())
        };
        echo("before")?;
        cluster.etcd.stop();
        let stopped = Instant::now();
        // A newcomer is told why, and goes on trying.
        let mut newcomer = Agent::command(&setup.new_job("new")?, cluster.url(2))?;
        let mut newcomer =
            Process::start("newcomer", newcomer.args(["--transport", "quic", "--id", "new"]), setup.path())?;
        newcomer.wait_for_log("why it is refused", |log| {
            log.contains("cannot ask its cluster who has which ID")
        })?;
        while stopped.elapsed() < Duration::from_mins(1) {
            echo("meanwhile")?;
            is_found()?;
            // The minute itself is what is tested; other tests run beside it.
            std::thread::sleep(Duration::from_secs(2));
        }
        assert!(newcomer.try_wait()?.is_none());
        cluster.etcd.start_again()?;
        newcomer.wait_for("a line to copy", |line| line.contains("/client/new.").then_some(()))?;
        cluster.wait_until_they_know_each_other()?;
        is_found()?;

        cluster.etcd.stop();
        cluster.etcd.lose_data()?;
        cluster.etcd.start_again()?;
        cluster.wait_until_they_know_each_other()?;
        // Nobody else gets the ID, whether or not its relay has written it again by now.
        let mut thief = Agent::command(&setup.new_job("thief")?, cluster.url(2))?;
        let thief = Agent::start_as("thief", thief.args(named), setup.path())?;
        assert_ne!(thief.id, "build");
        for relay in [1, 2] {
            let process = &cluster.relay(relay).process;
            process.wait_for_log("the loss", |log| log.contains("etcd has lost its data"))?;
        }
        is_found()?;
        echo("after")?;
        session.end_input();
        assert!(session.wait()?.success());
        Ok(())
    });
}

/// One that wants a certificate from whoever comes, and a name with a password.
#[test]
fn etcd_that_asks_who_is_there_lets_relays_in() {
    crate::tell(Carrier::Quic, |setup| {
        let directory = setup.path().join("cluster");
        let etcd = Etcd::start_guarded(&directory)?;
        let mut cluster = Cluster::start_at(&directory, etcd, &vec![Place::Loopback; 2], [""; 0])?;
        let job = setup.new_job("clustered")?;
        let named = ["--transport", "quic", "--id", "build"];
        let agent = Agent::start(&job, setup.path(), cluster.url(1), named)?;
        let output = run(setup.openssh_to("ssh", &through(&agent, cluster.url(2)))?.arg("echo in"), b"")?;
        assert_eq!(output.success()?.text(), "in\n");

        fs::write(cluster.etcd.password_file()?, "wrong\n")?;
        cluster.kill(2)?;
        cluster.start_relay(2)?;
        cluster.relay(2).process.wait_for_log("why etcd lets it in no more", |log| {
            log.contains("the cluster's registry cannot be reached")
                && log.contains("invalid user ID or password")
        })?;
        Ok(())
    });
}

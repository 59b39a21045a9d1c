//! The relay's certificate while it runs, and the agent's own.

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Agent, Process, Relay, Setup,
    authority::{Authority, serial_of, serial_on},
    process::{Output, eventually, run},
    programs,
};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

on_both_carriers! {
    renewed_certificate_is_for_new_connections_and_old_sessions_go_on,
    half_renewed_certificate_is_not_used_and_told_of_once,
    agent_shows_a_certificate,
}

const NAMES: &str = "IP:127.0.0.1,DNS:localhost";

/// `HOST:PORT` of an `https://` URL.
fn authority_of(url: &str) -> Result<&str> {
    let rest = url.strip_prefix("https://").context("an https URL")?;
    Ok(rest.split_once('#').map_or(rest, |(authority, _)| authority))
}

/// A further relay, with these arguments.
fn relay(setup: &Setup, name: &str, arguments: &[(&str, &Path)]) -> Result<Relay> {
    let mut command = Relay::command(&setup.path().join(name), "127.0.0.1:0")?;
    for (flag, value) in arguments {
        command.arg(flag).arg(value);
    }
    Relay::start_as(name, &mut command, setup.path())
}

/// A further agent on that relay, whose roots are in `roots`.
fn agent(setup: &Setup, relay: &Relay, roots: &Path) -> Result<Agent> {
    let mut command = Agent::command(&setup.new_job("certified-job")?, &relay.url)?;
    command.args(["--transport", &setup.carrier.to_string()]).env("SSL_CERT_FILE", roots);
    Agent::start_as("certified-agent", &mut command, setup.path())
}

fn curl(roots: &Path, arguments: &[&str]) -> Result<Output> {
    let mut curl = Command::new(programs::installed("curl")?);
    run(
        curl.arg("--cacert").arg(roots).args(["-sS", "--max-time", "30", "--noproxy", "*"]).args(arguments),
        b"",
    )
}

fn renewed_certificate_is_for_new_connections_and_old_sessions_go_on(setup: &mut Setup) -> Result<()> {
    let (old, new) = (Authority::new(setup.path(), "old")?, Authority::new(setup.path(), "new")?);
    let both = setup.path().join("both.pem");
    fs::write(
        &both,
        [fs::read_to_string(old.certificate())?, fs::read_to_string(new.certificate())?].concat(),
    )?;
    // As Kubernetes mounts a secret: the files are links through a link to a directory, which is exchanged.
    let mount = setup.path().join("mount");
    for (directory, authority) in [("..1", &old), ("..2", &new)] {
        let directory = mount.join(directory);
        fs::create_dir_all(&directory)?;
        authority.issue_to_relay(&directory.join("tls.crt"), &directory.join("tls.key"), NAMES)?;
    }
    symlink("..1", mount.join("..data"))?;
    let (cert, key) = (mount.join("tls.crt"), mount.join("tls.key"));
    symlink("..data/tls.crt", &cert)?;
    symlink("..data/tls.key", &key)?;

    let relay = relay(setup, "certified", &[("--cert", &cert), ("--key", &key)])?;
    let agent = agent(setup, &relay, &both)?;
    let authority = authority_of(&relay.url)?.to_owned();
    let before = serial_on(&authority)?;
    assert_eq!(before, serial_of(&cert)?);
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    ssh.env("SSL_CERT_FILE", old.certificate());
    let mut session = Process::start_with_input(
        "session",
        ssh.arg("echo in; while read word; do echo $word; done; exit 7"),
        setup.path(),
    )?;
    session.wait_for("a login", |line| (line == "in").then_some(()))?;

    symlink("..2", mount.join("..data_tmp"))?;
    fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
    let after = serial_of(&cert)?;
    eventually("the new certificate", || serial_on(&authority).ok().filter(|serial| *serial == after))?;
    relay.process.wait_for_log("a word about it", |log| log.contains("another certificate"))?;

    // The old session, and a new one by somebody who would not believe the old certificate.
    session.write_line("word")?;
    session.wait_for("an echo", |line| (line == "word").then_some(()))?;
    let log_in = |roots: &Authority| -> Result<Output> {
        let mut ssh = setup.openssh_to("ssh", &agent.address)?;
        run(ssh.env("SSL_CERT_FILE", roots.certificate()).arg("echo in again"), b"")
    };
    assert_eq!(log_in(&new)?.success()?.text(), "in again\n");
    let refused = log_in(&old)?;
    assert!(refused.stderr.contains("not trusted"), "{}", refused.stderr);
    session.end_input();
    assert_eq!(session.wait()?.code(), Some(7));
    assert_eq!(agent.process.log().matches("registered id=").count(), 1, "{}", agent.process.log());

    pages_are_protected(&format!("https://{authority}/"), &new.certificate(), true)?;
    // Whose certificate is nobody's gets no promise that there is always a better one.
    let own = format!("https://{}/", authority_of(&setup.relay.url)?);
    pages_are_protected(&own, &new.certificate(), false)
}

/// What every page says to browsers, in both versions of HTTP.
fn pages_are_protected(url: &str, roots: &Path, is_issued: bool) -> Result<()> {
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        let trust = if is_issued { "-4" } else { "-k" };
        for path in ["", "healthz", "no-such-page"] {
            let page = curl(roots, &[flag, trust, "-D", "-", "-o", "/dev/null", &format!("{url}{path}")])?;
            let headers = page.success()?.text().to_lowercase();
            ensure!(headers.starts_with(&version.to_lowercase()), "{headers}");
            for wanted in [
                "content-security-policy: default-src 'none'",
                "x-content-type-options: nosniff",
                "x-frame-options: deny",
                "referrer-policy: no-referrer",
                "permissions-policy: ",
            ] {
                ensure!(headers.contains(wanted), "no {wanted} at {path:?} in {headers}");
            }
            ensure!(
                headers.contains("strict-transport-security: max-age=") == is_issued,
                "{path:?}: {headers}"
            );
        }
    }
    Ok(())
}

fn half_renewed_certificate_is_not_used_and_told_of_once(setup: &mut Setup) -> Result<()> {
    let authority = Authority::new(setup.path(), "authority")?;
    // As certbot does it: a link for each file, which leads to the latest one.
    let (archive, live) = (setup.path().join("archive"), setup.path().join("live"));
    fs::create_dir_all(&archive)?;
    fs::create_dir_all(&live)?;
    let exchange = |name: &str, number: u8| -> Result<()> {
        symlink(format!("../archive/{name}{number}.pem"), live.join("link"))?;
        Ok(fs::rename(live.join("link"), live.join(format!("{name}.pem")))?)
    };
    for number in [1, 2] {
        let file = |name: &str| archive.join(format!("{name}{number}.pem"));
        authority.issue_to_relay(&file("fullchain"), &file("privkey"), NAMES)?;
    }
    exchange("fullchain", 1)?;
    exchange("privkey", 1)?;
    let (cert, key) = (live.join("fullchain.pem"), live.join("privkey.pem"));
    let relay = relay(setup, "certified", &[("--cert", &cert), ("--key", &key)])?;
    let port = authority_of(&relay.url)?.to_owned();
    let first = serial_of(&cert)?;

    // The certificate alone.
    exchange("fullchain", 2)?;
    relay
        .process
        .wait_for_log("a complaint", |log| log.contains("cannot use the files of --cert and --key"))?;
    assert_eq!(serial_on(&port)?, first);
    exchange("privkey", 2)?;
    let second = serial_of(&cert)?;
    eventually("the second certificate", || serial_on(&port).ok().filter(|serial| *serial == second))?;
    relay.process.wait_for_log("relief", |log| log.contains("in order again"))?;

    // Half of a file, written in place.
    fs::write(&cert, "-----BEGIN CERTIFICATE-----\nMIIB")?;
    let complaints = |log: &str| log.matches("cannot use the files").count();
    relay.process.wait_for_log("another complaint", |log| complaints(log) == 2)?;
    assert_eq!(serial_on(&port)?, second);
    // Something happens beside it; it is looked at again, and not complained of again.
    fs::write(live.join("README"), "")?;
    authority.issue_to_relay(&archive.join("fullchain2.pem"), &archive.join("privkey2.pem"), NAMES)?;
    let third = serial_of(&cert)?;
    eventually("the third certificate", || serial_on(&port).ok().filter(|serial| *serial == third))?;
    let log = relay.process.log();
    assert_eq!(complaints(&log), 2, "{log}");
    Ok(())
}

fn agent_shows_a_certificate(setup: &mut Setup) -> Result<()> {
    let (ours, theirs) = (Authority::new(setup.path(), "ours")?, Authority::new(setup.path(), "theirs")?);
    let relay = relay(setup, "asking", &[("--agent-ca", &ours.certificate())])?;
    let job = setup.new_job("job-with-certificate")?;
    let (cert, key) = (setup.path().join("agent.crt"), setup.path().join("agent-tls.key"));
    let command = || -> Result<Command> {
        let mut command = Agent::command(&job, &relay.url)?;
        command.args(["--transport", &setup.carrier.to_string(), "--client-cert"]).arg(&cert);
        command.arg("--client-key").arg(&key);
        Ok(command)
    };
    let missing = run(&mut command()?, b"")?;
    assert!(
        missing.stderr.contains("agent.crt") || missing.stderr.contains("agent-tls.key"),
        "{}",
        missing.stderr
    );
    assert!(missing.stderr.contains("--client-cert"), "{}", missing.stderr);

    ours.issue_to_agent(&cert, &key, "runner 7", "DNS:runner-7.ci.example,URI:spiffe://example/ci")?;
    let agent = Agent::start_as("shown", &mut command()?, setup.path())?;
    relay.process.wait_for_log("its names", |log| {
        log.contains("runner 7 (DNS:runner-7.ci.example URI:spiffe://example/ci)")
    })?;
    assert_eq!(run(setup.openssh_to("ssh", &agent.address)?.arg("echo in"), b"")?.success()?.text(), "in\n");

    // Who shows none goes on without; so does curl.
    let mut without = Agent::command(&setup.new_job("job-without")?, &relay.url)?;
    let without = without.args(["--transport", &setup.carrier.to_string()]);
    let without = Agent::start_as("not-shown", without, setup.path())?;
    assert_eq!(
        run(setup.openssh_to("ssh", &without.address)?.arg("echo in"), b"")?.success()?.text(),
        "in\n"
    );
    let authority = authority_of(&relay.url)?;
    let page = curl(&ours.certificate(), &["-k", &format!("https://{authority}/healthz")])?;
    assert_eq!(page.success()?.text(), "ok\n");

    // Another authority's is refused, and the agent's log says why.
    theirs.issue_to_agent(&cert, &key, "stranger", "DNS:stranger.example")?;
    let stranger = Process::start("stranger", &mut command()?, setup.path())?;
    stranger.wait_for_log("why", |log| log.contains("no authority that it believes has issued it"))?;
    Ok(())
}

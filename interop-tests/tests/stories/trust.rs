//! Who is believed: the relay's certificate, the agent's host key, the person's key.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Agent, Process, Setup,
    process::{Output, run},
    setup::make_key,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

on_both_carriers! {
    wrong_fingerprint_is_refused_and_both_are_named,
    without_a_fingerprint_the_relay_vouches_and_the_client_says_so,
    wrong_pin_is_refused,
    certificate_of_nobody_needs_a_pin,
    key_that_is_not_allowed_is_denied,
    allowed_keys_are_read_at_every_login,
    known_hosts_is_not_touched,
}

fn proxy(setup: &Setup, address: &str) -> Result<Output> {
    run(setup.converge()?.args(["proxy", address]), b"")
}

/// `text` with its first character replaced by another that is as good.
fn altered(text: &str) -> String {
    let first = if text.starts_with('a') { "b" } else { "a" };
    first.to_owned() + text.get(1..).unwrap_or_default()
}

fn wrong_fingerprint_is_refused_and_both_are_named(setup: &mut Setup) -> Result<()> {
    let right = setup.agent.fingerprint();
    let wrong = altered(right);
    let address = setup.agent.address.replace(right, &wrong);
    for output in [
        proxy(setup, &address)?,
        run(setup.converge()?.args(["host-key", &address]), b"")?,
        run(setup.openssh_to("ssh", &address)?.arg("true"), b"")?,
        run(setup.openssh_to("sftp", &address)?.args(["-b", "-"]), b"ls\n")?,
        run(setup.openssh_to("scp", &address)?.args([":x", "x"]), b"")?,
    ] {
        assert_eq!(output.status.code(), Some(6), "{}", output.stderr);
        assert!(output.stderr.contains(right) && output.stderr.contains(&wrong), "{}", output.stderr);
        assert!(output.stdout.is_empty(), "no byte of the session comes through");
    }
    Ok(())
}

fn without_a_fingerprint_the_relay_vouches_and_the_client_says_so(setup: &mut Setup) -> Result<()> {
    let address = setup.agent.address.replace(&format!(".{}", setup.agent.fingerprint()), "");
    let output = run(setup.openssh_to("ssh", &address)?.arg("echo in"), b"")?.success()?;
    assert_eq!(output.text(), "in\n");
    assert!(output.stderr.contains("the relay vouches for the host key"), "{}", output.stderr);
    assert!(output.stderr.contains(setup.agent.fingerprint()), "{}", output.stderr);
    Ok(())
}

fn wrong_pin_is_refused(setup: &mut Setup) -> Result<()> {
    let (before, pin) = setup.agent.address.split_once("pin-sha256=").context("a pin in the address")?;
    let address = format!("{before}pin-sha256={}", altered(pin));
    for output in [proxy(setup, &address)?, run(setup.openssh_to("ssh", &address)?.arg("true"), b"")?] {
        assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
        assert!(output.stderr.contains("pin"), "{}", output.stderr);
    }
    let (relay, pin) = setup.relay.url.split_once("pin-sha256=").context("a pin in the URL")?;
    let relay = format!("{relay}pin-sha256={}", altered(pin));
    let mut agent = Agent::command(&setup.job(), &relay)?;
    agent.args(["--transport", &setup.carrier.to_string()]);
    let output = run(&mut agent, b"")?;
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("pin"), "{}", output.stderr);
    Ok(())
}

fn certificate_of_nobody_needs_a_pin(setup: &mut Setup) -> Result<()> {
    let (address, _) = setup.agent.address.split_once('#').context("a pin in the address")?;
    let output = proxy(setup, address)?;
    assert_eq!(output.status.code(), Some(4), "{}", output.stderr);
    assert!(output.stderr.contains("it carries the pin of a self-signed certificate"), "{}", output.stderr);
    let mut insecure = setup.converge()?;
    insecure.args(["ssh", "--insecure", address]).args(setup.ssh_options()).arg("echo in");
    let output = run(&mut insecure, b"")?.success()?;
    assert_eq!(output.text(), "in\n");
    assert!(output.stderr.contains("the relay's certificate is not verified"), "{}", output.stderr);
    Ok(())
}

fn login_with(setup: &Setup, key: &Path) -> Result<Output> {
    let mut ssh = setup.converge()?;
    ssh.args([
        "ssh",
        &setup.agent.address,
        "-F",
        "none",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-i",
    ]);
    run(ssh.arg(key).arg("echo in"), b"")
}

fn key_that_is_not_allowed_is_denied(setup: &mut Setup) -> Result<()> {
    let other = setup.path().join("other");
    make_key(&other)?;
    let output = login_with(setup, &other)?;
    assert_eq!(output.status.code(), Some(255));
    assert!(output.stderr.contains("Permission denied (publickey)"), "{}", output.stderr);
    assert_eq!(login_with(setup, &setup.key())?.success()?.text(), "in\n");
    Ok(())
}

fn allowed_keys_are_read_at_every_login(setup: &mut Setup) -> Result<()> {
    let (other, file) = (setup.path().join("other"), setup.job().join(".authorized_keys"));
    make_key(&other)?;
    let before = fs::read_to_string(&file)?;
    // A session that is there stays when its key goes.
    let mut early = setup.openssh("ssh")?;
    let mut early = Process::start_with_input("early", early.arg("echo in; cat"), setup.path())?;
    early.wait_for("a login", |line| (line == "in").then_some(()))?;

    assert!(!login_with(setup, &other)?.status.success());
    fs::write(&file, fs::read_to_string(other.with_extension("pub"))?)?;
    login_with(setup, &other)?.success()?;
    assert!(!login_with(setup, &setup.key())?.status.success());
    fs::remove_file(&file)?;
    assert!(!login_with(setup, &other)?.status.success());
    fs::write(&file, before)?;
    login_with(setup, &setup.key())?.success()?;

    early.write_line("still here")?;
    early.wait_for("an echo", |line| (line == "still here").then_some(()))?;
    early.end_input();
    assert!(early.wait()?.success());
    Ok(())
}

/// ssh takes the home directory from the account, not from the environment; in tests they are the same.
fn known_hosts() -> Option<PathBuf> {
    Some(PathBuf::from(env::var_os("HOME")?).join(".ssh").join("known_hosts"))
}

fn known_hosts_is_not_touched(setup: &mut Setup) -> Result<()> {
    let file = known_hosts().context("a home directory")?;
    let before = fs::read(&file).ok();
    run(setup.openssh("ssh")?.arg("true"), b"")?.success()?;
    run(setup.openssh("sftp")?.args(["-b", "-"]), b"ls\n")?.success()?;
    let mut ssh = std::process::Command::new("ssh");
    run(ssh.arg("-F").arg(setup.ssh_config()?).args([&setup.host(), "true"]), b"")?.success()?;
    assert_eq!(fs::read(&file).ok(), before);
    Ok(())
}

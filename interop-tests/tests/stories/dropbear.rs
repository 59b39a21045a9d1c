//! dbclient, the ssh client of small systems.

use super::shell::job_with_prompt;
use anyhow::Result;
use converge_interop_tests::{
    Agent, Process, Setup, Terminal, files,
    loopback::{echo, exchange, free_port},
    process::{eventually, run},
    programs,
};
use rustix::process::Signal;
use std::{fs, net::TcpStream, process::Command};

on_both_carriers! {
    dbclient_has_a_whole_session,
    dbclient_has_a_shell_at_a_terminal,
    dbclient_forwards_ports_both_ways,
    dbclient_refuses_another_host_key,
}

/// dbclient with the person's key in its own format, which asks nothing: the agent's key is in its `known_hosts`.
fn dbclient(setup: &Setup) -> Result<Command> {
    let (key, home) = (setup.path().join("dropbear-key"), setup.path().join("dropbear-home"));
    if !key.exists() {
        let mut convert = Command::new(programs::installed("dropbearconvert")?);
        run(convert.args(["openssh", "dropbear"]).arg(setup.key()).arg(&key), b"")?.success()?;
        fs::create_dir_all(home.join(".ssh"))?;
        fs::rename(setup.known_hosts("job")?, home.join(".ssh/known_hosts"))?;
    }
    let mut command = Command::new(programs::installed("dbclient")?);
    command.current_dir(setup.path()).env("HOME", &home).env_remove("SSH_AUTH_SOCK");
    command.arg("-i").arg(key).args(["-J", &setup.proxy_line()?]);
    Ok(command)
}

fn dbclient_has_a_whole_session(setup: &mut Setup) -> Result<()> {
    let output = run(dbclient(setup)?.args(["x@job", "cat; echo err >&2; exit 7"]), b"in")?;
    assert_eq!((output.text().as_str(), output.status.code()), ("in", Some(7)), "{}", output.stderr);
    assert!(output.stderr.ends_with("err\n"), "{}", output.stderr);

    let file = setup.path().join("large");
    files::write_random(&file, 5_000_003)?;
    let sent = fs::read(&file)?;
    let output = run(dbclient(setup)?.args(["x@job", "cat"]), &sent)?.success()?;
    assert_eq!(files::sha256_of(&output.stdout), files::sha256_of(&sent));
    Ok(())
}

fn dbclient_has_a_shell_at_a_terminal(setup: &mut Setup) -> Result<()> {
    let (_, mut command) = job_with_prompt(setup)?;
    setup.agent = Agent::start_as("home-agent", &mut command, setup.path())?;
    let mut client = dbclient(setup)?;
    client.arg("x@job");
    let mut terminal = Terminal::open(client, 24, 80)?;
    terminal.expect("job> ")?;
    terminal.type_text("stty size; test -t 0 && echo $TERM\r")?;
    terminal.expect("24 80\r\nxterm\r\n")?;
    terminal.type_text("until test \"$(stty size)\" = '50 132'; do :; done; echo resi''zed\r")?;
    terminal.resize(50, 132)?;
    terminal.expect("resized")?;
    terminal.type_text("exit 3\r")?;
    assert_eq!(terminal.finish()?.1.code(), Some(3));
    Ok(())
}

fn dbclient_forwards_ports_both_ways(setup: &mut Setup) -> Result<()> {
    let (target, here, there) = (echo()?, free_port()?, free_port()?);
    let mut client = dbclient(setup)?;
    client.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L", &format!("{here}:{target}")]);
    client.args(["-R", &format!("{there}:{target}"), "x@job"]);
    let mut client = Process::start("dbclient", &mut client, setup.path())?;
    for address in [here, there] {
        let stream = eventually("a listener", || TcpStream::connect(address).ok())?;
        let sent = vec![7; 1_000_003];
        assert!(exchange(&stream, &sent)? == sent, "what comes back through {address} differs");
    }
    client.signal(Signal::TERM)?;
    client.wait()?;
    setup.wait_for_the_end_of_sessions()
}

fn dbclient_refuses_another_host_key(setup: &mut Setup) -> Result<()> {
    dbclient(setup)?;
    let public = fs::read_to_string(setup.key().with_extension("pub"))?;
    fs::write(setup.path().join("dropbear-home/.ssh/known_hosts"), format!("job {public}"))?;
    let output = run(dbclient(setup)?.args(["x@job", "true"]), b"")?;
    assert_ne!(output.status.code(), Some(0));
    assert!(output.stderr.contains("ost key mismatch"), "{}", output.stderr);
    Ok(())
}

//! Plain ssh with our client under other names, and with WebSocket tools that have never heard of us.

use anyhow::{Context, Result};
use converge_interop_tests::{Process, Setup, files, process::run, programs};
use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

on_both_carriers! {
    plain_ssh_goes_through_converge_proxy,
    plain_ssh_goes_through_websocat_in_cleartext,
    printed_line_for_plain_ssh_asks_nothing,
    configured_host_name_asks_nothing,
    wsproxy_is_the_client_by_another_name,
    tcptows_is_the_client_by_another_name,
    local_port_leads_to_the_job,
    large_upload_goes_through_websocat,
}

/// Plain ssh with the person's key, which asks nothing: it would fail instead.
fn ssh(setup: &Setup) -> Result<Command> {
    let mut command = Command::new(programs::installed("ssh")?);
    command.current_dir(setup.path()).args(setup.ssh_options());
    Ok(command)
}

/// The option by which ssh learns the agent's key from `converge`, for `name`.
fn known_host(setup: &Setup, name: &str) -> Result<String> {
    let line = run(setup.converge()?.args(["host-key", &setup.agent.address]), b"")?.success()?.text();
    let (_, key) = line.trim().split_once(' ').context("a known_hosts line")?;
    Ok(format!("KnownHostsCommand=/bin/echo {name} {key}"))
}

/// Whether it is a whole session: both streams, status, and input.
fn check(mut ssh: Command) -> Result<()> {
    let output = run(ssh.arg("cat; echo err >&2; exit 7"), b"in")?;
    assert_eq!((output.text().as_str(), output.status.code()), ("in", Some(7)), "{}", output.stderr);
    assert!(output.stderr.ends_with("err\n"), "{}", output.stderr);
    Ok(())
}

fn websocat() -> Result<String> {
    Ok(programs::installed("websocat")?.display().to_string())
}

fn plain_ssh_goes_through_converge_proxy(setup: &mut Setup) -> Result<()> {
    let mut ssh = ssh(setup)?;
    let converge = programs::own("converge")?;
    let proxy = format!(
        "ProxyCommand='{}' --transport {} proxy '{}'",
        converge.display(),
        setup.carrier,
        setup.agent.address
    );
    ssh.args(["-o", &proxy, "-o", &known_host(setup, "job")?, "job"]);
    check(ssh)
}

fn plain_ssh_goes_through_websocat_in_cleartext(setup: &mut Setup) -> Result<()> {
    let mut ssh = ssh(setup)?;
    let proxy =
        format!("ProxyCommand={} --binary {}/client/{}", websocat()?, setup.relay.http, setup.agent.id);
    ssh.args(["-o", &proxy, "-o", &known_host(setup, "localhost")?, "x@localhost"]);
    check(ssh)
}

fn printed_line_for_plain_ssh_asks_nothing(setup: &mut Setup) -> Result<()> {
    let line = &setup.agent.plain_ssh;
    assert!(line.contains("websocat --binary ") && line.contains(" -k wss://"), "{line}");
    let mut shell = Command::new("sh");
    let tools = PathBuf::from(websocat()?);
    let path = format!("{}:{}", std::env::var("PATH")?, tools.parent().context("a directory")?.display());
    shell.env("PATH", path).args(["-c", &format!("{line} \"$@\""), "sh"]).args(setup.ssh_options());
    check(shell)
}

fn configured_host_name_asks_nothing(setup: &mut Setup) -> Result<()> {
    let config = setup.ssh_config()?;
    for host in [setup.host(), format!("{}.converge", setup.agent.id)] {
        let mut command = Command::new(programs::installed("ssh")?);
        command.arg("-F").arg(&config).arg(host);
        check(command)?;
    }
    Ok(())
}

/// Our client under another name, as an installation makes it.
fn linked(setup: &Setup, name: &str) -> Result<PathBuf> {
    let link = setup.path().join(name);
    symlink(programs::own("converge")?, &link)?;
    Ok(link)
}

/// The agent's address in cleartext and with TLS, as WebSocket URLs.
fn urls(setup: &Setup) -> Result<[String; 2]> {
    let cleartext = format!("{}/client/{}", setup.relay.http, setup.agent.id);
    let (_scheme, rest) = setup.agent.address.split_once("://").context("a URL")?;
    Ok([cleartext, format!("wss://{rest}")])
}

fn wsproxy_is_the_client_by_another_name(setup: &mut Setup) -> Result<()> {
    let program = linked(setup, "wsproxy")?;
    let known = known_host(setup, "job")?;
    for url in urls(setup)? {
        for raw in ["", "--raw "] {
            let mut ssh = ssh(setup)?;
            let proxy = format!("ProxyCommand='{}' {raw}'{url}'", program.display());
            ssh.args(["-o", &proxy, "-o", &known, "job"]);
            check(ssh)?;
        }
    }
    let output = run(
        Command::new(&program).args(["--raw", &urls(setup)?[0].replace("/client/", "/client/no-")]),
        b"",
    )?;
    assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
    Ok(())
}

/// The port in `listening on ADDRESS:PORT`.
fn port(listener: &mut Process) -> Result<String> {
    listener
        .wait_for("its port", |line| Some(line.strip_prefix("listening on ")?.rsplit_once(':')?.1.to_owned()))
}

fn ssh_to_port(setup: &Setup, port: &str) -> Result<Command> {
    let mut command = ssh(setup)?;
    let known = known_host(setup, &format!("[127.0.0.1]:{port}"))?;
    command.args(["-p", port, "-o", &known, "x@127.0.0.1"]);
    Ok(command)
}

fn tcptows_is_the_client_by_another_name(setup: &mut Setup) -> Result<()> {
    let program = linked(setup, "tcptows")?;
    for (number, url) in urls(setup)?.iter().enumerate() {
        for (name, option) in [("framed", None), ("raw", Some("--raw"))] {
            let mut command = Command::new(&program);
            let command = command.args(option).args(["0", url]);
            let mut listener = Process::start(&format!("tcptows-{name}-{number}"), command, setup.path())?;
            let port = port(&mut listener)?;
            check(ssh_to_port(setup, &port)?)?;
        }
    }
    Ok(())
}

fn local_port_leads_to_the_job(setup: &mut Setup) -> Result<()> {
    let mut command = setup.converge()?;
    command.args(["listen", &setup.agent.address, "--listen", "127.0.0.1:0"]);
    let mut listener = Process::start("listen", &mut command, setup.path())?;
    let port = port(&mut listener)?;
    // One connection after the other, and beside each other.
    let mut open = ssh_to_port(setup, &port)?;
    let mut open = Process::start_with_input("open", open.arg("echo in; cat"), setup.path())?;
    open.wait_for("a login", |line| (line == "in").then_some(()))?;
    check(ssh_to_port(setup, &port)?)?;
    check(ssh_to_port(setup, &port)?)?;

    let taken = run(
        setup.converge()?.args(["listen", &setup.agent.address, "--listen", &format!("127.0.0.1:{port}")]),
        b"",
    )?;
    assert_eq!(taken.status.code(), Some(2), "{}", taken.stderr);
    assert!(taken.stderr.contains("cannot listen on"), "{}", taken.stderr);

    // Its end is the end of its sessions, also for the agent.
    listener.signal(rustix::process::Signal::TERM)?;
    assert!(listener.wait()?.success());
    assert_eq!(open.wait()?.code(), Some(255));
    setup.wait_for_the_end_of_sessions()
}

fn large_upload_goes_through_websocat(setup: &mut Setup) -> Result<()> {
    let file = setup.path().join("large");
    files::write_random(&file, 20_000_000)?;
    let mut ssh = ssh(setup)?;
    let [_, url] = urls(setup)?;
    let (url, _pin) = url.split_once('#').context("a pin")?;
    let proxy = format!("ProxyCommand={} --binary -k '{url}'", websocat()?);
    ssh.args(["-o", &proxy, "-o", &known_host(setup, "job")?, "job", "sha256sum"]);
    // Not back: websocat 1.14 may stop for good when its standard output was full.
    let output = run(&mut ssh, &fs::read(&file)?)?.success()?;
    assert_eq!(output.text().split(' ').next(), Some(files::sha256(&file)?.as_str()));
    Ok(())
}

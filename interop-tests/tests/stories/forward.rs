//! What OpenSSH forwards: ports, Unix sockets, names behind a SOCKS proxy, its own input and output, other ssh
//! connections, and the authentication agent.

use anyhow::{Context, Result};
use converge_interop_tests::{
    Process, Setup, Sshd, files,
    loopback::{echo, echo_on, exchange, free_port, through_socks, unix_echo},
    process::{Output, eventually, run},
    programs,
    setup::make_key,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

on_both_carriers! {
    local_ports_and_sockets_lead_into_the_job,
    ports_and_sockets_in_the_job_lead_here,
    socks_proxy_leads_to_names_in_the_job,
    input_and_output_are_a_connection,
    job_is_a_jump_host,
    keys_of_the_authentication_agent_work_in_the_job_when_asked_for,
    control_socket_changes_what_is_forwarded,
}

/// More than any window or buffer on the way.
fn large() -> Vec<u8> {
    (0_u32..1_000_003).flat_map(u32::to_le_bytes).collect()
}

/// Whether all that is sent comes back.
macro_rules! assert_echoes {
    ($stream:expr, $bytes:expr) => {
        let (stream, bytes) = ($stream, &$bytes[..]);
        assert!(exchange(&stream, bytes)? == bytes, "what comes back differs: {}", stringify!($stream));
    };
}

/// An ssh that only forwards, with a control socket.
struct Forwarding {
    ssh: Process,
    socket: PathBuf,
}

impl Forwarding {
    /// Starts it, and waits until it listens here. In the job it may not yet.
    fn start(setup: &Setup, options: &[&str]) -> Result<Self> {
        let socket = setup.path().join("control");
        let mut ssh = setup.configured("ssh")?;
        // The local command runs once all local listeners and the control socket are there.
        ssh.args(["-N", "-M", "-S"]).arg(&socket).args(["-o", "ExitOnForwardFailure=yes"]);
        ssh.args(["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"]).args(options);
        ssh.arg(setup.host());
        let mut ssh = Process::start("forwarding", &mut ssh, setup.path())?;
        ssh.wait_for("a connection", |line| (line == "connected").then_some(()))?;
        Ok(Self { ssh, socket })
    }

    /// `ssh -O`: what the running ssh is told.
    fn control(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(programs::installed("ssh")?);
        command.args(["-F", "none", "-S"]).arg(&self.socket).arg("-O").args(arguments).arg("job");
        run(&mut command, b"")
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // So that nothing of it is left; in a test that fails it may have ended.
        let _ = self.control(&["exit"]).and_then(|_| self.ssh.wait());
    }
}

fn local_ports_and_sockets_lead_into_the_job(setup: &mut Setup) -> Result<()> {
    let (target, port) = (echo()?, free_port()?);
    let (here, there) = (setup.path().join("here.socket"), setup.path().join("there.socket"));
    unix_echo(&there)?;
    let forwards = [format!("{port}:{target}"), format!("{}:{}", here.display(), there.display())];
    let _ssh = Forwarding::start(setup, &["-L", &forwards[0], "-L", &forwards[1]])?;
    let large = large();
    assert_echoes!(TcpStream::connect(port)?, large);
    assert_echoes!(UnixStream::connect(&here)?, large);
    // Many beside each other.
    let open: Vec<_> = (0..50).map(|_| TcpStream::connect(port)).collect::<Result<_, _>>()?;
    for stream in open {
        assert_echoes!(stream, *b"one of many");
    }
    Ok(())
}

/// The port that the agent chose, as ssh says it.
fn allocated(ssh: &Process) -> Result<u16> {
    eventually("the port in the job", || {
        let log = ssh.log();
        log.lines().find_map(|line| line.strip_prefix("Allocated port ")?.split(' ').next()?.parse().ok())
    })
}

fn ports_and_sockets_in_the_job_lead_here(setup: &mut Setup) -> Result<()> {
    let (target, there) = (echo()?, setup.path().join("there.socket"));
    let forwards = [format!("0:{target}"), format!("{}:{target}", there.display())];
    let forwarding = Forwarding::start(setup, &["-R", &forwards[0], "-R", &forwards[1]])?;
    let large = large();
    assert_echoes!(TcpStream::connect(("127.0.0.1", allocated(&forwarding.ssh)?))?, large);
    assert_echoes!(eventually("the socket", || UnixStream::connect(&there).ok())?, large);
    drop(forwarding);
    eventually("the end of the socket", || (!there.exists()).then_some(()))
}

fn socks_proxy_leads_to_names_in_the_job(setup: &mut Setup) -> Result<()> {
    let (target, proxy) = (echo()?, free_port()?);
    let _ssh = Forwarding::start(setup, &["-D", &proxy.to_string()])?;
    assert_echoes!(through_socks(proxy, &target.ip().to_string(), target.port())?, large());
    let named = echo_on(Ipv4Addr::LOCALHOST)?;
    assert_echoes!(through_socks(proxy, "localhost", named.port())?, *b"by name");
    // ssh says that it is connected before it is; then the connection just ends.
    // Where nobody listens, some versions of ssh say that they are connected before they are.
    let nobody = free_port()?;
    let stream = through_socks(proxy, &nobody.ip().to_string(), nobody.port());
    let answer = stream.and_then(|stream| exchange(&stream, b"anybody?"));
    assert!(answer.unwrap_or_default().is_empty(), "nobody listens there");
    Ok(())
}

fn input_and_output_are_a_connection(setup: &mut Setup) -> Result<()> {
    let (target, large) = (echo()?, large());
    let output = run(setup.openssh("ssh")?.args(["-W", &target.to_string()]), &large)?.success()?;
    assert!(output.stdout == large, "what comes back differs");
    let nobody = free_port()?;
    let refused = run(setup.openssh("ssh")?.args(["-W", &nobody.to_string()]), b"")?;
    assert_eq!(refused.status.code(), Some(255));
    assert!(refused.stderr.contains("stdio forwarding failed"), "{}", refused.stderr);
    Ok(())
}

/// ssh or sftp to a further host by the job.
fn beyond(setup: &Setup, sshd: &Sshd, program: &str) -> Result<Command> {
    let mut command = setup.configured(program)?;
    command.args(["-J", &setup.host()]);
    command.args(["-o", &format!("Port={}", sshd.address.port())]);
    command.args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts.display())]);
    Ok(command)
}

fn job_is_a_jump_host(setup: &mut Setup) -> Result<()> {
    let sshd = Sshd::start(setup.path(), &setup.key().with_extension("pub"))?;
    let host = sshd.address.ip().to_string();
    let output =
        run(beyond(setup, &sshd, "ssh")?.args([&host, "cat; echo $SSH_CONNECTION; exit 7"]), b"in ")?;
    assert_eq!(output.status.code(), Some(7), "{}", output.stderr);
    let wanted = format!(" {host} {}\n", sshd.address.port());
    assert!(output.text().starts_with("in ") && output.text().ends_with(&wanted), "{}", output.text());

    files::write_random(&setup.path().join("sent"), 5_000_003)?;
    let paths = ["sent", "there", "back"].map(|name| setup.path().join(name));
    let [sent, there, back] = paths.each_ref().map(|path| path.display());
    let batch = format!("put {sent} {there}\nget {there} {back}\n");
    run(beyond(setup, &sshd, "sftp")?.args(["-b", "-", &host]), batch.as_bytes())?.success()?;
    assert_eq!(files::sha256(&paths[2])?, files::sha256(&paths[0])?);
    Ok(())
}

fn keys_of_the_authentication_agent_work_in_the_job_when_asked_for(setup: &mut Setup) -> Result<()> {
    // A key that is nowhere but in the authentication agent opens a further host.
    let (key, socket) = (setup.path().join("other-key"), setup.path().join("auth.socket"));
    make_key(&key)?;
    let sshd = Sshd::start(setup.path(), &key.with_extension("pub"))?;
    let mut agent = Command::new(programs::installed("ssh-agent")?);
    let mut agent = Process::start("ssh-agent", agent.args(["-D", "-a"]).arg(&socket), setup.path())?;
    agent.wait_for("its socket", |line| line.starts_with("SSH_AUTH_SOCK=").then_some(()))?;
    let mut add = Command::new(programs::installed("ssh-add")?);
    run(add.env("SSH_AUTH_SOCK", &socket).arg("-q").arg(&key), b"")?.success()?;
    fs::remove_file(&key)?;

    let hop = format!(
        "ssh -F none -o BatchMode=yes -o UserKnownHostsFile={} -p {} {} 'echo beyond; exit 7'",
        sshd.known_hosts.display(),
        sshd.address.port(),
        sshd.address.ip()
    );
    let ssh = |option: &str, line: &str| {
        let mut command = setup.openssh("ssh")?;
        run(command.env("SSH_AUTH_SOCK", &socket).args([option, line]), b"")
    };
    let output = ssh("-A", &hop)?;
    assert_eq!((output.text().as_str(), output.status.code()), ("beyond\n", Some(7)), "{}", output.stderr);
    let public = fs::read_to_string(key.with_extension("pub"))?;
    assert_eq!(ssh("-A", "ssh-add -L")?.success()?.text(), public);
    // The socket is for the job's user alone, and gone with the session.
    let line = "stat -c %a $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK); echo $SSH_AUTH_SOCK";
    let output = ssh("-A", line)?.success()?.text();
    let [mode, of_directory, path] = output.lines().collect::<Vec<_>>()[..] else { panic!("{output}") };
    assert!(mode.ends_with("00") && of_directory == "700", "{output}");
    eventually("the end of the socket", || (!PathBuf::from(path).exists()).then_some(()))?;
    // Who does not ask has none.
    assert_eq!(ssh("-a", "echo \"<$SSH_AUTH_SOCK>\"")?.success()?.text(), "<>\n");
    assert_eq!(ssh("-a", &hop)?.status.code(), Some(255));
    Ok(())
}

fn control_socket_changes_what_is_forwarded(setup: &mut Setup) -> Result<()> {
    let mut forwarding = Forwarding::start(setup, &[])?;
    assert!(forwarding.control(&["check"])?.success()?.stderr.contains("Master running"));
    let (target, here) = (echo()?, free_port()?);
    let local = format!("{here}:{target}");
    forwarding.control(&["forward", "-L", &local])?.success()?;
    assert_echoes!(TcpStream::connect(here)?, *b"here");
    let remote = format!("0:{target}");
    let port = forwarding.control(&["forward", "-R", &remote])?.success()?.text();
    let there = SocketAddr::new([127, 0, 0, 1].into(), port.trim().parse().context("the chosen port")?);
    let open = TcpStream::connect(there)?;
    assert_echoes!(TcpStream::connect(there)?, *b"there");

    forwarding.control(&["cancel", "-L", &local])?.success()?;
    forwarding.control(&["cancel", "-R", &remote])?.success()?;
    for address in [here, there] {
        eventually("the end of a listener", || TcpStream::connect(address).is_err().then_some(()))?;
    }
    // What came through before lives on.
    assert_echoes!(open, *b"still there");
    forwarding.control(&["exit"])?.success()?;
    assert!(forwarding.ssh.wait()?.code().is_some());
    assert_eq!(forwarding.control(&["check"])?.status.code(), Some(255));
    Ok(())
}

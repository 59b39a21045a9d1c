//! Forwarding with real OpenSSH: what a client opens into the job, and what the job reaches through the client.

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{Files, PATIENCE, TestServer, assert_same_bytes, is_running, noise, run, success, until};
use converge_agent::activity::Activity;
use converge_agent::events::{Event, Events};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

const MIB: usize = 1024 * 1024;

/// A service in the job: sends back everything, and ends when its client has.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("connections can be accepted");
            tokio::spawn(answer(stream));
        }
    });
    address
}

fn unix_echo(path: &Path) {
    let listener = UnixListener::bind(path).expect("it can be bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("connections can be accepted");
            tokio::spawn(answer(stream));
        }
    });
}

async fn answer(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // Ends early when the test does.
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
    let _ = writer.shutdown().await;
}

/// Sends everything and ends its own direction, reads everything up to the end.
async fn exchange(stream: impl AsyncRead + AsyncWrite, data: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let write = async {
        writer.write_all(data).await.expect("it takes everything");
        writer.shutdown().await.expect("it can be ended");
    };
    let both = async { tokio::join!(write, reader.read_to_end(&mut answer)).1.expect("it can be read") };
    tokio::time::timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("no end of the answer"));
    answer
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// An `ssh -N` whose forwards are all there.
struct Forwarding {
    ssh: Child,
    control: String,
}

impl Forwarding {
    /// Forwards are made before the control socket answers, and a failed one ends ssh.
    async fn start(server: &TestServer, options: &[&str]) -> Self {
        let path = server.files.path(&format!("control-{}", rand::random::<u32>()));
        let control = format!("ControlPath={}", path.display());
        let mut ssh = server.ssh(
            &[
                &["-M", "-N", "-o", &control, "-o", "ControlPersist=no", "-o", "ExitOnForwardFailure=yes"],
                options,
            ]
            .concat(),
            "",
        );
        let ssh = ssh.spawn().expect("ssh is installed");
        let forwarding = Self { ssh, control };
        until("the control socket", || path.exists()).await;
        success(&forwarding.control(server, &["check"]).await);
        forwarding
    }

    /// `ssh -O …` to the master.
    async fn control(&self, server: &TestServer, arguments: &[&str]) -> Output {
        let mut ssh = server.client("ssh");
        ssh.args(["-o", &self.control, "-O"]).args(arguments).arg("x@127.0.0.1");
        run(ssh, b"").await
    }
}

/// Connects to a port of this machine.
async fn dial(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap_or_else(|error| panic!("port {port}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_port_leads_to_a_port_in_the_job() {
    let server = TestServer::start().await;
    let (target, port) = (echo().await, free_port().await);
    let forward = format!("127.0.0.1:{port}:localhost:{}", target.port());
    let _ssh = Forwarding::start(&server, &["-L", &forward]).await;
    for data in [&b"x"[..], b"", &noise(3 * MIB)] {
        assert_same_bytes(&exchange(dial(port).await, data).await, data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_socket_leads_to_a_socket_in_the_job() {
    let server = TestServer::start().await;
    let (here, there) = (server.files.path("here"), server.files.path("there"));
    unix_echo(&there);
    unix_echo(&server.files.path("work/relative"));
    for target in [there.to_str().expect("UTF-8"), "./relative"] {
        let forward = format!("{}:{target}", here.display());
        let _ssh = Forwarding::start(&server, &["-o", "StreamLocalBindUnlink=yes", "-L", &forward]).await;
        let data = noise(MIB);
        let stream = UnixStream::connect(&here).await.expect("ssh listens");
        assert_same_bytes(&exchange(stream, &data).await, &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_port_leads_to_the_client_until_it_is_cancelled() {
    let server = TestServer::start().await;
    let (target, port) = (echo().await, free_port().await);
    let forward = format!("{port}:127.0.0.1:{}", target.port());
    let ssh = Forwarding::start(&server, &["-R", &forward]).await;
    let data = noise(MIB);
    assert_same_bytes(&exchange(dial(port).await, &data).await, &data);

    // Without a bind address it is the loopback interface alone, in both families.
    let stream = TcpStream::connect(("::1", port)).await.expect("IPv6 on the loopback interface");
    assert_same_bytes(&exchange(stream, b"six").await, b"six");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect_err("the port is taken");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    std::net::TcpListener::bind(("127.0.0.2", port)).expect("another address is not");

    // A port that the agent chooses; it is printed.
    let any = format!("0:127.0.0.1:{}", target.port());
    let chosen = success(&ssh.control(&server, &["forward", "-R", &any]).await);
    let chosen: u16 = chosen.trim().parse().expect("a port");
    let kept = dial(chosen).await;
    assert_same_bytes(&exchange(dial(chosen).await, &data).await, &data);

    // Cancelled: both can be bound at once, and what came through lives on.
    success(&ssh.control(&server, &["cancel", "-R", &any]).await);
    success(&ssh.control(&server, &["cancel", "-R", &forward]).await);
    for port in [port, chosen] {
        until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()).await;
    }
    assert_same_bytes(&exchange(kept, &data).await, &data);
    success(&ssh.control(&server, &["forward", "-R", &forward]).await);
    assert_same_bytes(&exchange(dial(port).await, &data).await, &data);
    success(&ssh.control(&server, &["exit"]).await);
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_port_is_where_the_client_says() {
    let server = TestServer::start().await;
    let (target, port) = (echo().await, free_port().await);
    for (bind, reached) in [("*", "127.0.0.2"), ("127.0.0.3", "127.0.0.3"), ("[::1]", "::1")] {
        let forward = format!("{bind}:{port}:127.0.0.1:{}", target.port());
        let ssh = Forwarding::start(&server, &["-R", &forward]).await;
        let stream = TcpStream::connect((reached, port)).await.expect(bind);
        assert_same_bytes(&exchange(stream, b"hello").await, b"hello");
        success(&ssh.control(&server, &["exit"]).await);
        until("nobody listens", || std::net::TcpStream::connect((reached, port)).is_err()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_socket_leads_to_the_client_and_only_for_the_jobs_user() {
    use std::os::unix::fs::PermissionsExt;
    let server = TestServer::start().await;
    let (target, socket) = (echo().await, server.files.path("remote"));
    let forward = format!("{}:127.0.0.1:{}", socket.display(), target.port());
    let ssh = Forwarding::start(&server, &["-R", &forward]).await;
    let mode = std::fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let data = noise(MIB);
    let stream = UnixStream::connect(&socket).await.expect("the agent listens");
    assert_same_bytes(&exchange(stream, &data).await, &data);
    success(&ssh.control(&server, &["cancel", "-R", &forward]).await);
    until("the socket is gone", || !socket.exists()).await;

    // A file in its place is left alone, as by OpenSSH's server.
    std::fs::write(&socket, "mine").expect("it can be written");
    let output = ssh.control(&server, &["forward", "-R", &forward]).await;
    assert!(text(&output.stderr).contains("remote port forwarding failed"), "{output:?}");
    assert_eq!(std::fs::read(&socket).expect("it is there"), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socks_proxy_leads_to_names_in_the_job() {
    let server = TestServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("connections can be accepted");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nfrom job\n").await;
        }
    });
    let port = free_port().await;
    let _ssh = Forwarding::start(&server, &["-D", &format!("127.0.0.1:{port}")]).await;
    for version in ["--socks5-hostname", "--socks4a", "--socks5"] {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sS", "--noproxy", "", "-m", "60", version, &format!("127.0.0.1:{port}")]);
        curl.arg(format!("http://localhost:{target}/"));
        assert_eq!(success(&run(curl, b"").await), "from job\n", "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_output_lead_to_a_port_in_the_job() {
    let server = TestServer::start().await;
    let target = echo().await.to_string();
    let data = noise(5 * MIB);
    let output = run(server.ssh(&["-W", &target], ""), &data).await;
    success(&output);
    assert_same_bytes(&output.stdout, &data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_through_the_agent_reaches_another_ssh_server() {
    let (jump, inner) = (TestServer::start().await, TestServer::start().await);
    let hosts = [("jump", &jump, ""), ("inner", &inner, "ProxyJump jump\n")];
    let mut config = String::new();
    for (name, server, more) in hosts {
        let known = server.files.path("known");
        let line = format!("[127.0.0.1]:{} {}", server.port, server.files.public_key("host"));
        std::fs::write(&known, line).expect("the file can be written");
        config += &format!(
            "Host {name}\nHostName 127.0.0.1\nPort {}\nUser x\nIdentityFile {}\nUserKnownHostsFile {}\n{more}",
            server.port,
            server.files.path("id").display(),
            known.display()
        );
    }
    config += "Host *\nBatchMode yes\nStrictHostKeyChecking yes\nIdentitiesOnly yes\nIdentityAgent none\n\
               GlobalKnownHostsFile none\nLogLevel ERROR\n";
    let file = jump.files.path("config");
    std::fs::write(&file, config).expect("the file can be written");
    let data = noise(2 * MIB);
    for _ in 0..5 {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&file).args(["inner", "cat; exit 7"]).kill_on_drop(true);
        let output = run(ssh, &data).await;
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        assert_same_bytes(&output.stdout, &data);
    }
}

/// An authentication agent with the key `id`, and its socket.
async fn ssh_agent(files: &Files) -> (Child, PathBuf) {
    let socket = files.path("ssh-agent");
    let agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ssh-agent is installed");
    until("the agent listens", || socket.exists()).await;
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(files.path("id")).env("SSH_AUTH_SOCK", &socket);
    success(&run(add, b"").await);
    (agent, socket)
}

/// `ssh -A`. The first value of an option counts, and the harness gives one for the agent: this comes before it.
fn client_with_agent(server: &TestServer, socket: &Path) -> Command {
    let given: Vec<_> = server.client("ssh").as_std().get_args().map(ToOwned::to_owned).collect();
    let mut ssh = Command::new("ssh");
    ssh.arg("-A").arg("-o").arg(format!("IdentityAgent={}", socket.display())).args(given).kill_on_drop(true);
    ssh
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authentication_agent_can_be_used_in_the_job_and_leaves_nothing() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let below = place.path().to_owned();
    let server = TestServer::start_with(|config| config.agent_dir = Some(below)).await;
    let (_agent, socket) = ssh_agent(&server.files).await;
    let with_agent = |command: &str| {
        let mut ssh = client_with_agent(&server, &socket);
        ssh.args(["x@127.0.0.1", command]);
        ssh
    };
    let listed = success(
        &run(with_agent("ssh-add -l; stat -c %a $(dirname $SSH_AUTH_SOCK) $SSH_AUTH_SOCK"), b"").await,
    );
    assert!(listed.contains("(ED25519)"), "{listed}");
    assert!(listed.ends_with("700\n600\n"), "{listed}");
    let path = success(&run(with_agent("echo $SSH_AUTH_SOCK"), b"").await);
    assert!(Path::new(path.trim()).starts_with(place.path()), "{path}");
    let left = || std::fs::read_dir(place.path()).expect("it can be read").count();
    until("nothing is left", || left() == 0).await;

    // Two users at once of one agent, and sixteen programs.
    let many = "for i in $(seq 16); do ssh-add -l > /dev/null & done; wait; ssh-add -l";
    let (one, two) = tokio::join!(run(with_agent(many), b""), run(with_agent(many), b""));
    assert!(success(&one).contains("(ED25519)") && success(&two).contains("(ED25519)"));

    let without = success(&server.run("echo ${SSH_AUTH_SOCK:-none}").await);
    assert!(!without.contains(place.path().to_str().expect("UTF-8")), "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_said_in_plain_words() {
    let server = TestServer::start().await;
    let closed = free_port().await;
    for (target, words) in [
        (format!("127.0.0.1:{closed}"), format!("cannot connect to 127.0.0.1:{closed}: Connection refused")),
        (format!("[::1]:{closed}"), format!("cannot connect to [::1]:{closed}: Connection refused")),
        ("no-such-name.invalid:80".to_owned(), "cannot look up no-such-name.invalid: ".to_owned()),
    ] {
        let output = run(server.ssh(&["-v", "-W", &target], ""), b"").await;
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("open failed: connect failed: {words}")), "{target}: {said}");
    }
    let (here, missing) = (server.files.path("here"), server.files.path("missing"));
    let forward = format!("{}:{}", here.display(), missing.display());
    let mut ssh = server.ssh(&["-v", "-N", "-L", &forward], "");
    let mut ssh = ssh.stderr(Stdio::piped()).spawn().expect("ssh is installed");
    until("ssh listens", || here.exists()).await;
    assert_eq!(exchange(UnixStream::connect(&here).await.expect("ssh listens"), b"").await, b"");
    ssh.start_kill().expect("it can be killed");
    let said = text(&ssh.wait_with_output().await.expect("text").stderr);
    assert!(said.contains(&format!("cannot connect to {}: No such file", missing.display())), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_refused_and_the_reason_shown() {
    let server = TestServer::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let forward = format!("{port}:127.0.0.1:1");
    let options = ["-v", "-o", "ExitOnForwardFailure=yes", "-R", &forward];
    let output = run(server.ssh(&options, "true"), b"").await;
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("remote port forwarding failed for listen port"), "{said}");
    assert!(said.contains(&format!("cannot listen on localhost:{port}: Address already in use")), "{said}");
    // Without that option it is a warning, and the rest works.
    assert_eq!(success(&run(server.ssh(&["-R", &forward], "echo on"), b"").await), "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_direction_leaves_the_other_one_open() {
    let server = TestServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (target, port) = (listener.local_addr().expect("an address"), free_port().await);
    let _ssh = Forwarding::start(&server, &["-L", &format!("127.0.0.1:{port}:{target}")]).await;

    // The client ends first, and the answer comes after that.
    let mut client = dial(port).await;
    let (mut service, _) = listener.accept().await.expect("a connection");
    client.write_all(b"question").await.expect("it takes it");
    client.shutdown().await.expect("it can be ended");
    let mut question = Vec::new();
    service.read_to_end(&mut question).await.expect("the end arrives");
    assert_eq!(question, b"question");
    service.write_all(b"answer").await.expect("it takes it");
    drop(service);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("the end arrives");
    assert_eq!(answer, b"answer");

    // The service ends first, and still gets what the client sends.
    let mut client = dial(port).await;
    let (mut service, _) = listener.accept().await.expect("a connection");
    service.write_all(b"greeting").await.expect("it takes it");
    service.shutdown().await.expect("it can be ended");
    let mut greeting = Vec::new();
    client.read_to_end(&mut greeting).await.expect("the end arrives");
    assert_eq!(greeting, b"greeting");
    client.write_all(b"reply").await.expect("it takes it");
    drop(client);
    let mut reply = Vec::new();
    service.read_to_end(&mut reply).await.expect("the end arrives");
    assert_eq!(reply, b"reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_either_end_ends_the_other() {
    let server = TestServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (target, port) = (listener.local_addr().expect("an address"), free_port().await);
    let _ssh = Forwarding::start(&server, &["-L", &format!("127.0.0.1:{port}:{target}")]).await;
    for client_is_first in [true, false] {
        let client = dial(port).await;
        let (service, _) = listener.accept().await.expect("a connection");
        let (first, mut second) = if client_is_first { (client, service) } else { (service, client) };
        socket2::SockRef::from(&first).set_linger(Some(Duration::ZERO)).expect("an option");
        drop(first);
        let mut rest = Vec::new();
        // An end or an error; what matters is that it comes, also for somebody who goes on writing.
        let ended = tokio::time::timeout(PATIENCE, async {
            let _ = second.read_to_end(&mut rest).await;
            while second.write_all(b"still there?").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        ended.await.expect("the other end notices");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_in_both_directions_at_once() {
    let server = TestServer::start().await;
    let (target, local, remote) = (echo().await, free_port().await, free_port().await);
    let _ssh = Forwarding::start(
        &server,
        &["-L", &format!("127.0.0.1:{local}:{target}"), "-R", &format!("127.0.0.1:{remote}:{target}")],
    )
    .await;
    let data = noise(100 * MIB);
    for port in [local, remote] {
        let answer = exchange(dial(port).await, &data).await;
        assert_same_bytes(&answer, &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_connection_stops_no_other_one() {
    let server = TestServer::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = echo().await;
    let (to_silent, to_echo) = (free_port().await, free_port().await);
    let silent_address = silent.local_addr().expect("an address");
    let _ssh = Forwarding::start(
        &server,
        &[
            "-L",
            &format!("127.0.0.1:{to_silent}:{silent_address}"),
            "-L",
            &format!("127.0.0.1:{to_echo}:{target}"),
        ],
    )
    .await;
    // One service that reads nothing, with more for it than a window; one client that reads nothing, likewise.
    let mut into_silent = dial(to_silent).await;
    let (mut unread_service, _) = silent.accept().await.expect("a connection");
    let data = noise(24 * MIB);
    let (input, expected) = (data.clone(), data.clone());
    let (taken, mut progress) = tokio::sync::watch::channel(0_usize);
    let stalled = tokio::spawn(async move {
        for piece in input.chunks(64 * 1024) {
            into_silent.write_all(piece).await.expect("all is taken in the end");
            taken.send_modify(|sent| *sent += piece.len());
        }
        into_silent
    });
    progress.wait_for(|&sent| sent > 12 * MIB).await.expect("the writer lives");
    let mut unread_client = dial(to_silent).await;
    let (mut talker, _) = silent.accept().await.expect("a connection");
    let talking = tokio::spawn(async move {
        talker.write_all(&data).await.expect("all is taken in the end");
    });

    let small = noise(2 * MIB);
    for _ in 0..5 {
        assert_same_bytes(&exchange(dial(to_echo).await, &small).await, &small);
    }
    assert_eq!(success(&server.run("echo fine").await), "fine\n");

    // Both get everything once they read.
    let mut received = vec![0; expected.len()];
    tokio::time::timeout(PATIENCE, unread_service.read_exact(&mut received))
        .await
        .expect("everything arrives")
        .expect("it can be read");
    assert_same_bytes(&received, &expected);
    tokio::time::timeout(PATIENCE, unread_client.read_exact(&mut received))
        .await
        .expect("everything arrives")
        .expect("it can be read");
    assert_same_bytes(&received, &expected);
    talking.await.expect("no panic");
    drop(stalled.await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_at_once() {
    let server = TestServer::start().await;
    let (target, port) = (echo().await, free_port().await);
    let _ssh = Forwarding::start(&server, &["-L", &format!("127.0.0.1:{port}:{target}")]).await;
    let mut exchanges = JoinSet::new();
    for number in 0..200_usize {
        exchanges.spawn(async move {
            let data = noise(20_000 + number);
            assert_same_bytes(&exchange(dial(port).await, &data).await, &data);
        });
    }
    while let Some(done) = exchanges.join_next().await {
        done.expect("every connection works");
    }
    // And they are really over: as many again, twice.
    for _ in 0..2 {
        let open: Vec<_> = futures_util::future::join_all((0..200).map(|_| dial(port))).await;
        for stream in open {
            assert_eq!(exchange(stream, b"again").await, b"again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_leaves_no_port_no_socket_and_no_connection() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let below = place.path().to_owned();
    let server = TestServer::start_with(|config| config.agent_dir = Some(below)).await;
    let (_agent, agent_socket) = ssh_agent(&server.files).await;
    let service = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = service.local_addr().expect("an address");
    let (local, remote, socket) = (free_port().await, free_port().await, server.files.path("remote"));
    let forwards = [
        format!("-L127.0.0.1:{local}:{address}"),
        format!("-R{remote}:{address}"),
        format!("-R{}:{address}", socket.display()),
    ];
    let mut ssh = client_with_agent(&server, &agent_socket);
    ssh.args(["-o", "ExitOnForwardFailure=yes"]).args(forwards);
    ssh.args(["x@127.0.0.1", "echo $$; exec sleep 1000"]).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().expect("ssh is installed");
    let mut pid = String::new();
    let mut stdout = tokio::io::BufReader::new(ssh.stdout.take().expect("piped"));
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut pid).await.expect("a number");
    assert!(is_running(&pid) && socket.exists());
    assert_eq!(std::fs::read_dir(place.path()).expect("it can be read").count(), 1);

    let _client = dial(local).await;
    let (mut from_job, _) = service.accept().await.expect("a connection");
    let mut in_job = dial(remote).await;
    let _at_client = service.accept().await.expect("a connection");
    ssh.kill().await.expect("it can be killed");
    for stream in [&mut from_job, &mut in_job] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest));
        // An end or a reset.
        let _ = ended.await.expect("the connection ends");
    }
    until("the socket is gone", || !socket.exists()).await;
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", remote)).is_ok()).await;
    until("the agent's socket is gone", || {
        std::fs::read_dir(place.path()).is_ok_and(|entries| entries.count() == 0)
    })
    .await;
    until("the program is gone", || !is_running(&pid)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_forwards_in_every_state() {
    let server = TestServer::start().await;
    let service = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = service.local_addr().expect("an address");
    let (local, unanswered, remote) = (free_port().await, free_port().await, free_port().await);
    // Nobody answers there (RFC 5737), or the system says at once that there is no way.
    let _ssh = Forwarding::start(
        &server,
        &[
            "-L",
            &format!("127.0.0.1:{local}:{address}"),
            "-L",
            &format!("127.0.0.1:{unanswered}:192.0.2.1:9"),
            "-R",
            &format!("{remote}:{address}"),
        ],
    )
    .await;
    let _connected = dial(local).await;
    let _from_job = service.accept().await.expect("a connection");
    let (_connecting, _in_job) = (dial(unanswered).await, dial(remote).await);
    server.stop().await;
    std::net::TcpListener::bind(("127.0.0.1", remote)).expect("the port is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_counts_as_activity_when_a_user_is_at_its_one_end() {
    let activity = Activity::new();
    let shared = activity.clone();
    let server = TestServer::start_with(|config| config.activity = shared).await;
    let service = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = service.local_addr().expect("an address");
    let (local, remote) = (free_port().await, free_port().await);
    let _ssh = Forwarding::start(
        &server,
        &["-L", &format!("127.0.0.1:{local}:{address}"), "-R", &format!("{remote}:{address}")],
    )
    .await;
    let mut byte = [0];

    // What the job sends into a connection that the user opened.
    let mut client = dial(local).await;
    let (mut in_job, _) = service.accept().await.expect("a connection");
    let before = later().await;
    in_job.write_all(b"x").await.expect("it takes it");
    client.read_exact(&mut byte).await.expect("it arrives");
    until("the job's answer counts", || activity.last() > before).await;
    let before = later().await;
    client.write_all(b"x").await.expect("it takes it");
    in_job.read_exact(&mut byte).await.expect("it arrives");
    until("the user's question counts", || activity.last() > before).await;

    // What the job sends to a remote port does not count, what comes back does.
    let mut in_job = dial(remote).await;
    let (mut at_client, _) = service.accept().await.expect("a connection");
    let before = later().await;
    for _ in 0..20 {
        in_job.write_all(b"x").await.expect("it takes it");
        at_client.read_exact(&mut byte).await.expect("it arrives");
    }
    assert!(activity.last() < before);
    at_client.write_all(b"x").await.expect("it takes it");
    in_job.read_exact(&mut byte).await.expect("it arrives");
    until("the answer counts", || activity.last() > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_counts_as_activity_unless_it_is_a_terminals() {
    let activity = Activity::new();
    let shared = activity.clone();
    let server = TestServer::start_with(|config| config.activity = shared).await;
    success(&server.run("mkfifo say").await);
    for (option, counts) in [("-T", true), ("-tt", false)] {
        let mut ssh = server.ssh(&[option], "echo ready; exec cat say");
        let mut ssh = ssh.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ssh is installed");
        let mut lines =
            tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(ssh.stdout.take().expect("piped")));
        let mut line = async || lines.next_line().await.expect("text").expect("a line");
        assert_eq!(line().await.trim(), "ready");
        let before = later().await;
        std::fs::write(server.files.path("work/say"), "later\n").expect("it can be written");
        assert_eq!(line().await.trim(), "later");
        assert!(ssh.wait().await.expect("it was waited for").success());
        if counts {
            until("the output counts", || activity.last() > before).await;
        } else {
            assert!(activity.last() < before, "{option}");
        }
    }
}

/// A moment that is later than whatever has happened, in the milliseconds that [`Activity`] counts.
async fn later() -> tokio::time::Instant {
    tokio::time::sleep(Duration::from_millis(3)).await;
    let now = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(3)).await;
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_forwards_are_events() {
    let (events, mut told) = Events::channel();
    let server = TestServer::start_with(|config| config.events = events).await;
    let (target, port, closed) = (echo().await, free_port().await, free_port().await);
    run(server.ssh(&["-W", &target.to_string()], ""), b"x").await;
    run(server.ssh(&["-W", &format!("localhost:{closed}")], ""), b"").await;
    run(server.ssh(&["-R", &format!("{port}:localhost:1")], "echo $((6*7))"), b"").await;
    run(server.ssh(&["-tt"], ""), b"exit\n").await;
    let mut sftp = server.client("sftp");
    sftp.args(["-q", "-b", "-", "x@127.0.0.1"]);
    success(&run(sftp, b"pwd\n").await);
    let mut seen = Vec::new();
    while let Ok(told) = told.try_recv() {
        match told.event {
            Event::Forward { kind, target, refused, session } => {
                assert_eq!(session, "test");
                seen.push(format!("{kind} {target} {}", refused.unwrap_or_default()));
            }
            Event::Exec { kind, command, terminal, .. } => {
                seen.push(format!("{kind} {} {terminal}", command.unwrap_or_default()));
            }
            _ => {}
        }
    }
    assert_eq!(
        seen,
        [
            format!("local {target} "),
            format!("local localhost:{closed} cannot connect to localhost:{closed}: Connection refused"),
            format!("remote localhost:{port} "),
            "exec echo $((6*7)) false".to_owned(),
            "shell  true".to_owned(),
            "sftp  false".to_owned(),
        ]
    );
}

//! Forwarding with real OpenSSH: what a client opens into the job, and what the job reaches through the client.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::forwarding::{
    Forwarding, client_with_agent, dial, echo, exchange, free_port, ssh_agent, text, unix_echo,
};
use common::{TestServer, assert_same_bytes, noise, run, success, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;

const MIB: usize = 1024 * 1024;

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
    let (target, port) = (echo().await, free_port().await);
    let _ssh = Forwarding::start(&server, &["-D", &format!("127.0.0.1:{port}")]).await;
    for host in ["localhost", "127.0.0.1"] {
        let mut stream = dial(port).await;
        // RFC 1928: version 5, one method, without authentication; connect to a name.
        stream.write_all(&[5, 1, 0]).await.expect("it takes it");
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await.expect("an answer");
        assert_eq!(chosen, [5, 0]);
        let mut request = vec![5, 1, 0, 3, u8::try_from(host.len()).expect("short")];
        request.extend_from_slice(host.as_bytes());
        request.extend_from_slice(&target.port().to_be_bytes());
        stream.write_all(&request).await.expect("it takes it");
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(answer[..2], [5, 0], "{host}");
        let data = noise(MIB);
        assert_same_bytes(&exchange(stream, &data).await, &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_like_client_uses_the_socks_proxy() {
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
        curl.arg(format!("http://localhost:{target}/")).kill_on_drop(true);
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

//! Forwarding with real OpenSSH: what a client opens into the job, and what the job reaches through the client.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use common::{PATIENCE, TestServer, assert_same_bytes, noise, run, success, until};
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
    _ssh: Child,
    control: String,
}

impl Forwarding {
    /// Forwards are made before the control socket answers, and a failed one ends ssh.
    async fn start(server: &TestServer, options: &[&str]) -> Self {
        Self::start_in(server, server, options).await
    }

    async fn start_in(server: &TestServer, files: &TestServer, options: &[&str]) -> Self {
        let path = files.files.path(&format!("control-{}", rand::random::<u32>()));
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
        let forwarding = Self { _ssh: ssh, control };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_local_port_leads_to_a_port_in_the_job() {
    let server = TestServer::start().await;
    let (target, port) = (echo().await, free_port().await);
    let forward = format!("127.0.0.1:{port}:localhost:{}", target.port());
    let _ssh = Forwarding::start(&server, &["-L", &forward]).await;
    for data in [&b"x"[..], b"", &noise(3 * MIB)] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("ssh listens");
        assert_same_bytes(&exchange(stream, data).await, data);
    }
}

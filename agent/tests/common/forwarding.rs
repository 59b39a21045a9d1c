//! Both ends of forwards, and real ssh between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::{Child, Command};

use super::{Files, PATIENCE, TestServer, run, success, until};

/// A service in the job: sends back everything, and ends when its client has.
pub(crate) async fn echo() -> SocketAddr {
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

pub(crate) fn unix_echo(path: &Path) {
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
pub(crate) async fn exchange(stream: impl AsyncRead + AsyncWrite, data: &[u8]) -> Vec<u8> {
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
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// An `ssh -N` whose forwards are all there.
pub(crate) struct Forwarding {
    _ssh: Child,
    control: String,
}

impl Forwarding {
    /// Forwards are made before the control socket answers, and a failed one ends ssh.
    pub(crate) async fn start(server: &TestServer, options: &[&str]) -> Self {
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
        let forwarding = Self { _ssh: ssh, control };
        until("the control socket", || path.exists()).await;
        success(&forwarding.control(server, &["check"]).await);
        forwarding
    }

    /// `ssh -O …` to the master.
    pub(crate) async fn control(&self, server: &TestServer, arguments: &[&str]) -> Output {
        let mut ssh = server.client("ssh");
        ssh.args(["-o", &self.control, "-O"]).args(arguments).arg("x@127.0.0.1");
        run(ssh, b"").await
    }
}

/// Connects to a port of this machine.
pub(crate) async fn dial(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap_or_else(|error| panic!("port {port}: {error}"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An authentication agent with the key `id`, and its socket.
pub(crate) async fn ssh_agent(files: &Files) -> (Child, PathBuf) {
    let socket = files.path(&format!("ssh-agent-{}", rand::random::<u32>()));
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
pub(crate) fn client_with_agent(server: &TestServer, socket: &Path) -> Command {
    let given: Vec<_> = server.client("ssh").as_std().get_args().map(ToOwned::to_owned).collect();
    let mut ssh = Command::new("ssh");
    ssh.arg("-A").arg("-o").arg(format!("IdentityAgent={}", socket.display())).args(given).kill_on_drop(true);
    ssh
}

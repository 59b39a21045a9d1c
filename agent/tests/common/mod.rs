//! A server in this process on a port of its own, with real OpenSSH programs against it.

#![allow(dead_code, reason = "every test program uses its own part of this")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use converge_agent::ssh::{Addresses, SessionContext, SshServer, SshServerConfig};
use converge_agent::users::authorized_keys::AuthorizedKeys;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) mod example;
pub(crate) mod forwarding;
pub(crate) mod library_client;
pub(crate) mod podman;
pub(crate) mod terminal;
pub(crate) mod web;

/// Far above what anything here takes; a test that hangs fails with a message instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// Keys and files of one test.
pub(crate) struct Files {
    pub(crate) dir: TempDir,
}

impl Files {
    /// A host key, a user key `id` that may log in, and a user key `other` that may not.
    pub(crate) async fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        for name in ["host", "id", "other"] {
            files.make_key(name).await;
        }
        files.authorize(&files.public_key("id"));
        std::fs::create_dir(files.path("work")).expect("the directory can be made");
        files
    }

    /// Makes a pair of keys.
    pub(crate) async fn make_key(&self, name: &str) {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(self.path(name));
        success(&run(keygen, b"").await);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn public_key(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).expect("the public key can be read")
    }

    /// Replaces the authorized keys.
    pub(crate) fn authorize(&self, lines: &str) {
        std::fs::write(self.path("authorized_keys"), lines).expect("the file can be written");
    }

    /// Makes a command line of `program` (ssh, sftp or scp) that reaches the server at `port`.
    pub(crate) fn client(&self, program: &str, port: u16, key: &str) -> Command {
        let host_key = self.public_key("host");
        let known_hosts = self.path(&format!("known_hosts-{port}"));
        std::fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host_key}"))
            .expect("the file can be written");
        let mut command = Command::new(program);
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"])
            .args(["-o", "GlobalKnownHostsFile=none", "-o"])
            .arg(option("UserKnownHostsFile=", &known_hosts))
            .arg("-o")
            .arg(option("IdentityFile=", &self.path(key)))
            .args(["-o", &format!("Port={port}")])
            .kill_on_drop(true);
        command
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) files: Files,
    pub(crate) port: u16,
    pub(crate) cancel: CancellationToken,
    accepting: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut SshServerConfig)) -> Self {
        Self::start_on(Files::new().await, configure).await
    }

    pub(crate) async fn start_on(files: Files, configure: impl FnOnce(&mut SshServerConfig)) -> Self {
        // As the agent does: whoever runs the tests may do so under `nohup`.
        converge_agent::platform::signals::reset_signals().expect("handlers can be installed");
        let host_key =
            russh::keys::load_secret_key(files.path("host"), None).expect("the host key can be read");
        let keys = AuthorizedKeys::new([files.path("authorized_keys")]);
        let mut config = SshServerConfig::new(host_key, keys, files.path("work"));
        config.shells = vec!["bash".into()];
        // No start files of whoever runs the tests.
        config.environment.push(("HOME".into(), files.dir.path().into()));
        configure(&mut config);
        let server = SshServer::new(config).expect("the configuration is valid");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let cancel = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, server, cancel.clone()));
        Self { files, port, cancel, accepting }
    }

    pub(crate) fn client(&self, program: &str) -> Command {
        self.files.client(program, self.port, "id")
    }

    /// `ssh` with these arguments before the host name, running `command`.
    pub(crate) fn ssh(&self, options: &[&str], command: &str) -> Command {
        let mut ssh = self.client("ssh");
        ssh.args(options).arg("x@127.0.0.1");
        if !command.is_empty() {
            ssh.arg(command);
        }
        ssh
    }

    /// Runs a command, without input.
    pub(crate) async fn run(&self, command: &str) -> Output {
        run(self.ssh(&[], command), b"").await
    }

    /// Ends all sessions and waits for them.
    pub(crate) async fn stop(self) -> Files {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.accepting)
            .await
            .expect("all sessions end after the cancellation")
            .expect("no session panics");
        self.files
    }
}

async fn accept(listener: TcpListener, server: SshServer, cancel: CancellationToken) {
    let sessions = TaskTracker::new();
    loop {
        let (stream, client) = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted.expect("connections can be accepted"),
        };
        stream.set_nodelay(true).expect("a TCP option");
        let mut context = SessionContext::new("test");
        context.environment = vec![("CONVERGE_ID".to_owned(), "test-id".to_owned())];
        context.addresses = Some(Addresses { client, local: stream.local_addr().expect("an address") });
        let (server, cancel) = (server.clone(), cancel.child_token());
        sessions.spawn(async move { server.serve(stream, context, cancel).await });
    }
    sessions.close();
    sessions.wait().await;
}

/// Runs a program to its end with this input.
pub(crate) async fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program is installed");
    let (mut stdin, mut stdout, mut stderr) = (
        child.stdin.take().expect("piped"),
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let finished = tokio::time::timeout(PATIENCE, async {
        let write = async {
            // Programs may end without reading all of it.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let ((), read, read_err, status) =
            tokio::join!(write, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), child.wait());
        read.expect("stdout can be read");
        read_err.expect("stderr can be read");
        status.expect("the program can be waited for")
    })
    .await;
    let Ok(status) = finished else {
        panic!(
            "{command:?} hangs; so far {} bytes of stdout, stderr: {}",
            out.len(),
            String::from_utf8_lossy(&err)
        );
    };
    Output { status, stdout: out, stderr: err }
}

/// Fails with everything the program said unless it succeeded; its standard output as text.
#[track_caller]
pub(crate) fn success(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}, stdout: {}, stderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bytes without a pattern that a mistake in order or offset could survive.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same_bytes(actual: &[u8], expected: &[u8]) {
    let differs = actual.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((actual.len(), differs), (expected.len(), None), "(length, first difference)");
}

/// Waits until a condition that something else will make true holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "still waiting: {what}");
}

/// Whether a process exists and is not just waiting to be reaped.
pub(crate) fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

//! Who gets in, and what their key lets them do.

mod common;

use common::terminal::Terminal;
use common::{TestServer, run, success};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn any_user_name_with_a_listed_key_gets_in_and_another_key_does_not() {
    let server = TestServer::start().await;
    for user in ["x", "root", "some body"] {
        let mut ssh = server.client("ssh");
        ssh.args(["-l", user, "127.0.0.1", "echo in"]);
        assert_eq!(success(&run(ssh, b"").await), "in\n");
    }
    let mut ssh = server.files.client("ssh", server.port, "other");
    ssh.args(["x@127.0.0.1", "echo in"]);
    let output = run(ssh, b"").await;
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_the_key_file_count_at_the_next_login_and_its_mode_does_not_matter() {
    let server = TestServer::start().await;
    let files = &server.files;
    let other = || {
        let mut ssh = files.client("ssh", server.port, "other");
        ssh.args(["x@127.0.0.1", "true"]);
        run(ssh, b"")
    };
    assert!(!other().await.status.success());
    files.authorize(&format!("# new\n{}", files.public_key("other")));
    std::fs::set_permissions(files.path("authorized_keys"), std::fs::Permissions::from_mode(0o666))
        .expect("chmod");
    success(&other().await);
    assert!(!server.run("true").await.status.success(), "the first key was taken away");
    std::fs::remove_file(files.path("authorized_keys")).expect("the file can be removed");
    assert!(!other().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_command_runs_whatever_is_asked_for() {
    let server = TestServer::start().await;
    let files = &server.files;
    let forced = r#"command="echo forced: $SSH_ORIGINAL_COMMAND $FROM_KEY",environment="FROM_KEY=yes""#;
    files.authorize(&format!("{forced} {}", files.public_key("id")));
    assert_eq!(success(&server.run("rm -rf 'a b'").await), "forced: rm -rf 'a b' yes\n");
    let mut sftp = server.ssh(&["-s"], "sftp");
    sftp.kill_on_drop(true);
    assert_eq!(success(&run(sftp, b"").await), "forced: internal-sftp yes\n");
    assert_eq!(success(&run(server.ssh(&["-T"], ""), b"").await), "forced: yes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_permission_gets_no_terminal() {
    let server = TestServer::start().await;
    server.files.authorize(&format!("restrict {}", server.files.public_key("id")));
    // OpenSSH's client gives up when it does not get the terminal it asked for.
    let (text, status) = Terminal::open(server.ssh(&["-t"], "true"), 24, 80).finish().await;
    assert!(text.contains("PTY allocation request failed") && !status.success(), "{status}: {text}");
    assert_eq!(success(&server.run("[ -t 0 ] || echo no").await), "no\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_honoured_keep_the_key_out() {
    let server = TestServer::start().await;
    for option in [r#"from="127.0.0.1""#, "cert-authority", "hello", r#"expiry-time="20200101Z""#] {
        server.files.authorize(&format!("{option} {}", server.files.public_key("id")));
        assert_eq!(server.run("true").await.status.code(), Some(255), "{option}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_key_may_still_be_tried_and_the_seventh_may_not() {
    let server = TestServer::start().await;
    let files = &server.files;
    let wrong: Vec<String> = (0..6).map(|number| format!("wrong{number}")).collect();
    for name in &wrong {
        let mut keygen = tokio::process::Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(files.path(name));
        success(&run(keygen, b"").await);
    }
    for (count, works) in [(5, true), (6, false)] {
        let mut ssh = files.client("ssh", server.port, &wrong[0]);
        for name in wrong[1..count].iter().map(String::as_str).chain(["id"]) {
            ssh.arg("-i").arg(files.path(name));
        }
        ssh.args(["x@127.0.0.1", "true"]);
        let output = run(ssh, b"").await;
        assert_eq!(output.status.success(), works, "{count} wrong keys: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_and_ecdsa_keys_work() {
    let server = TestServer::start().await;
    for kind in [["rsa", "2048"], ["ecdsa", "256"], ["ecdsa", "521"]] {
        let name = kind.concat();
        let mut keygen = tokio::process::Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-t", kind[0], "-b", kind[1], "-f"]).arg(server.files.path(&name));
        success(&run(keygen, b"").await);
        server.files.authorize(&server.files.public_key(&name));
        let mut ssh = server.files.client("ssh", server.port, &name);
        ssh.args(["x@127.0.0.1", "echo in"]);
        assert_eq!(success(&run(ssh, b"").await), "in\n", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_algorithms_are_agreed_on() {
    let server = TestServer::start().await;
    let output = run(server.ssh(&["-v", "-c", "aes256-ctr,aes128-gcm@openssh.com"], "true"), b"").await;
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("kex: algorithm: curve25519-sha256") || log.contains("mlkem768x25519"), "{log}");
    assert!(log.contains("MAC: hmac-sha2-256-etm@openssh.com"), "{log}");
    for weak in [
        &["-c", "aes128-ctr", "-m", "hmac-sha1"][..],
        &["-o", "KexAlgorithms=diffie-hellman-group14-sha1"],
        &["-c", "aes128-cbc"],
    ] {
        let output = run(server.ssh(weak, "true"), b"").await;
        assert_eq!(output.status.code(), Some(255), "{weak:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_harm_nobody() {
    let server = TestServer::start().await;
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.expect("a connection");
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n\xff\xff\xff\xff garbage", b"\0", b"SSH-1.5-old\r\n"]
    {
        let mut stream =
            tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.expect("a connection");
        stream.write_all(garbage).await.expect("the server takes anything");
        stream.shutdown().await.expect("half-closed");
        let mut answer = Vec::new();
        // The server may answer or reset the connection, but it has to let go.
        let _ = tokio::time::timeout(common::PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("it lets go");
        success(&server.run("true").await);
    }
    drop(silent);
}

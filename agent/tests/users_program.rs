//! The program finds somebody who may log in before it does anything else, or says why there is nobody.

mod common;

use common::web::{Answer, Web, read_head};
use common::{Files, run};
use converge_certs::Identity;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

/// The program in an empty directory. Its relay is a port where nobody listens.
fn agent(directory: &Path, arguments: &[&str]) -> Command {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_converge-agent"));
    agent.args(["--relay", "ws://127.0.0.1:9"]).args(arguments).current_dir(directory).kill_on_drop(true);
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "CONVERGE_PROXY", "CONVERGE_LOG"] {
        agent.env_remove(name);
    }
    agent
}

/// What it says when it refuses to start.
async fn refusal(directory: &Path, arguments: &[&str]) -> String {
    let output = run(agent(directory, arguments), b"").await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text
}

/// The first line it logs that has these words.
async fn logs(mut agent: Command, words: &str) -> String {
    let mut child = agent.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program is built");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut seen = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.expect("stderr can be read") {
            if line.contains(words) {
                return line;
            }
            seen += &format!("{line}\n");
        }
        panic!("it never says {words:?}: {seen}");
    };
    let line = tokio::time::timeout(common::PATIENCE, reading).await.expect("it says something");
    child.kill().await.expect("it runs until it is told to stop");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_key_it_names_every_way_to_add_one() {
    let directory = TempDir::new().expect("a temporary directory");
    let text = refusal(directory.path(), &[]).await;
    for part in [
        "converge-agent: no key may log in: ",
        "/.authorized_keys: file does not exist; put a public key in ",
        "cat ~/.ssh/id_ed25519.pub >> ",
        "--github-user NAME, --gitlab-user NAME, --authorized-keys-url URL, --authorized-keys FILE",
        "--trusted-user-ca FILE",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_there_stops_it_unless_somebody_else_may_log_in() {
    let directory = TempDir::new().expect("a temporary directory");
    let web = Web::start(Answer::status("404 Not Found")).await;
    let arguments = ["--gitlab-user", "kim", "--gitlab-url", &web.url("/git")];
    let text = refusal(directory.path(), &arguments).await;
    let problem = format!(
        "{}: the server knows no such user or file (status 404); check the name",
        web.url("/git/kim.keys")
    );
    assert!(text.contains(&problem) && text.contains("; or put a public key in "), "{text}");

    let files = Files::new().await;
    std::fs::write(directory.path().join(".authorized_keys"), files.public_key("id")).expect("a file");
    let line = logs(agent(directory.path(), &arguments), "some users cannot log in yet").await;
    assert!(line.contains("WARN") && line.contains(&problem), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_makes_no_sense_stops_it_and_passwords_are_not_shown() {
    let directory = TempDir::new().expect("a temporary directory");
    for (arguments, words) in [
        (["--github-user", "../x"], "cannot use --github-user: \"../x\" is not the name of a user of GitHub"),
        (["--gitlab-user", ".x"], "cannot use --gitlab-user: \".x\" is not the name of a user of GitLab"),
        (["--authorized-keys-url", "http://example.com/?hunter2"], "the URL has to start with https://"),
        (["--authorized-keys-url", "https://kim:hunter2@example.com/"], "a user name or password in the URL"),
        (["--principals", "a,,b"], "cannot use --principals: expected names"),
        (["--trusted-user-ca", "missing"], "/missing: file does not exist"),
    ] {
        let text = refusal(directory.path(), &arguments).await;
        assert!(text.contains(words) && !text.contains("hunter2"), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_without_principals_is_warned_about() {
    let files = Files::new().await;
    let ca = files.path("id.pub");
    let trusting = |more: &[&str]| {
        let mut agent = agent(files.dir.path(), more);
        agent.arg("--trusted-user-ca").arg(&ca);
        agent
    };
    let line = logs(trusting(&[]), "without --principals").await;
    assert!(line.contains("WARN"), "{line}");
    let line = logs(trusting(&["--principals", "kim,ops"]), "authorities=1").await;
    assert!(line.contains("INFO"), "{line}");
}

/// A web server with TLS and this list. Its certificate is `certificate.pem` in the directory.
async fn tls_server(directory: &Path, list: String) -> u16 {
    let identity = Identity::self_signed(directory, &["localhost".to_owned()]).expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(identity.server_config(&[]).expect("a configuration")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust us does not come so far.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            read_head(&mut stream).await.expect("a request");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{list}", list.len());
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_over_tls_from_servers_that_the_system_trusts() {
    let files = Files::new().await;
    let port = tls_server(files.dir.path(), files.public_key("id")).await;
    let url = format!("https://localhost:{port}/keys?token=hunter2");
    let arguments = ["--authorized-keys-url", &url];
    let text = refusal(&files.path("work"), &arguments).await;
    let words = format!("https://localhost:{port}/keys?…: the certificate of localhost is not trusted: ");
    assert!(text.contains(&words) && !text.contains("hunter2"), "{text}");

    let mut trusting = agent(&files.path("work"), &arguments);
    trusting.env("SSL_CERT_FILE", files.path("certificate.pem"));
    let line = logs(trusting, "who may log in").await;
    assert!(line.contains("keys=1"), "{line}");
    // The relay's certificate is another matter.
    let text = refusal(&files.path("work"), &[&arguments[..], &["--insecure"]].concat()).await;
    assert!(text.contains(&words), "{text}");
}

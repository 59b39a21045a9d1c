//! What users may not do: by the agent's policy, and by the options of their keys.

mod common;

use std::process::Output;

use common::forwarding::{client_with_agent, free_port, ssh_agent, text};
use common::library_client::log_in;
use common::terminal::Terminal;
use common::{TestServer, run, success};
use converge_agent::ssh::{ForwardPolicy, SshServerConfig};
use tokio::net::TcpListener;

/// Somebody who listens in the job, and says one word to everybody.
async fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("connections can be accepted");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await;
        }
    });
    port
}

fn only(config: &mut SshServerConfig, rules: &[&str]) {
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    config.policy.forward = ForwardPolicy::Only(rules);
}

async fn to_port(server: &TestServer, port: u16) -> Output {
    run(server.ssh(&["-v", "-W", &format!("127.0.0.1:{port}")], ""), b"").await
}

async fn listen_on(server: &TestServer, place: &str) -> Output {
    let options = ["-v", "-o", "ExitOnForwardFailure=yes", "-R", &format!("{place}:127.0.0.1:1")];
    run(server.ssh(&options, "true"), b"").await
}

/// The name of the socket that a program finds for the authentication agent.
async fn agent_in(server: &TestServer) -> (String, String) {
    let (_agent, socket) = ssh_agent(&server.files).await;
    let mut ssh = client_with_agent(server, &socket);
    ssh.args(["-v", "x@127.0.0.1", "echo ${SSH_AUTH_SOCK:-none}"]);
    let output = run(ssh, b"").await;
    (success(&output).trim().to_owned(), text(&output.stderr))
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    assert!(!output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains(words), "no {words:?} in {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_forwards_allows_what_is_in_it() {
    let (allowed, other, listening, elsewhere) =
        (greeter().await, greeter().await, free_port().await, free_port().await);
    let place = tempfile::tempdir().expect("a temporary directory");
    let below = place.path().to_owned();
    let rules = [format!("127.0.0.1:{allowed}"), format!("listen:{listening}")];
    let server = TestServer::start_with(|config| {
        only(config, &[&rules[0], &rules[1]]);
        config.agent_dir = Some(below);
    })
    .await;
    assert_eq!(success(&to_port(&server, allowed).await), "hello");
    assert_refused(
        &to_port(&server, other).await,
        &format!(
            "administratively prohibited: this agent does not allow forwarding to 127.0.0.1:{other} (--allow-forward)"
        ),
    );
    success(&listen_on(&server, &listening.to_string()).await);
    for refused in [format!("{elsewhere}"), format!("*:{listening}"), "0".to_owned()] {
        assert_refused(&listen_on(&server, &refused).await, "this agent does not allow listening on ");
    }
    let (here, there) = (server.files.path("here"), server.files.path("there"));
    let forward = format!("{}:127.0.0.1:1", there.display());
    assert_refused(
        &run(server.ssh(&["-v", "-o", "ExitOnForwardFailure=yes", "-R", &forward], "true"), b"").await,
        "this agent does not allow listening on ",
    );
    assert!(!here.exists() && !there.exists());
    let (socket, said) = agent_in(&server).await;
    assert!(!socket.starts_with(place.path().to_str().expect("UTF-8")), "{socket}");
    assert!(said.contains("this agent does not allow forwarding of the authentication agent"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_key_limit_its_forwards() {
    let (allowed, other, port) = (greeter().await, greeter().await, free_port().await);
    let place = tempfile::tempdir().expect("a temporary directory");
    let below = place.path().to_owned();
    let server = TestServer::start_with(|config| config.agent_dir = Some(below)).await;
    let authorize = |options: &str| {
        server.files.authorize(&format!("{options} {}", server.files.public_key("id")));
    };
    let our_socket = |socket: &str| socket.starts_with(place.path().to_str().expect("UTF-8"));

    authorize(&format!(r#"permitopen="127.0.0.1:{allowed}",permitlisten="localhost:{port}""#));
    assert_eq!(success(&to_port(&server, allowed).await), "hello");
    let words = format!("this key does not allow forwarding to 127.0.0.1:{other} (permitopen)");
    assert_refused(&to_port(&server, other).await, &words);
    success(&listen_on(&server, &port.to_string()).await);
    assert_refused(&listen_on(&server, "0").await, "(permitlisten)");
    assert_refused(&listen_on(&server, &format!("*:{port}")).await, "(permitlisten)");
    assert!(our_socket(&agent_in(&server).await.0));

    for options in ["no-port-forwarding,agent-forwarding", "restrict,agent-forwarding"] {
        authorize(options);
        assert_refused(&to_port(&server, allowed).await, "(no-port-forwarding)");
        assert_refused(&listen_on(&server, &port.to_string()).await, "(no-port-forwarding)");
        assert!(our_socket(&agent_in(&server).await.0));
    }
    for options in ["no-agent-forwarding", "restrict,port-forwarding"] {
        authorize(options);
        assert_eq!(success(&to_port(&server, allowed).await), "hello");
        success(&listen_on(&server, &port.to_string()).await);
        let (socket, said) = agent_in(&server).await;
        assert!(!our_socket(&socket) && said.contains("(no-agent-forwarding)"), "{socket} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_sftp_reads_and_changes_nothing() {
    let server = TestServer::start_with(|config| config.policy.read_only_sftp = true).await;
    let (work, here) = (server.files.path("work"), server.files.path("here"));
    std::fs::write(work.join("file"), "as it was").expect("the file can be written");
    std::fs::create_dir(work.join("dir")).expect("the directory can be made");
    let batch = |lines: String| {
        let mut sftp = server.client("sftp");
        sftp.args(["-q", "-b", "-", "x@127.0.0.1"]);
        async move { run(sftp, lines.as_bytes()).await }
    };
    success(
        &batch(
            format!("ls -l\nstat file\nget file {}\ncd dir\npwd\n", here.display())
                .replace("stat file\n", ""),
        )
        .await,
    );
    assert_eq!(std::fs::read(&here).expect("it was fetched"), b"as it was");
    for change in [
        format!("put {} file", here.display()),
        format!("put {} new", here.display()),
        "rm file".to_owned(),
        "rename file new".to_owned(),
        "mkdir new".to_owned(),
        "rmdir dir".to_owned(),
        "chmod 777 file".to_owned(),
        "ln file new".to_owned(),
        "ln -s file new".to_owned(),
        "copy file new".to_owned(),
    ] {
        let output = batch(format!("{change}\n")).await;
        assert!(!output.status.success(), "{change}: {output:?}");
        assert!(text(&output.stderr).to_lowercase().contains("permission denied"), "{change}: {output:?}");
    }
    let mut names: Vec<_> = std::fs::read_dir(&work)
        .expect("it can be read")
        .map(|entry| entry.expect("one").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["dir", "file"]);
    assert_eq!(std::fs::read(work.join("file")).expect("it is there"), b"as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_commands_there_are_shells_on_terminals_and_sftp() {
    let server = TestServer::start_with(|config| config.policy.exec = false).await;
    for (options, command, input) in
        [(&["-T"][..], "touch done", ""), (&["-tt"], "touch done", ""), (&["-T"], "", "touch done\n")]
    {
        let output = run(server.ssh(options, command), input.as_bytes()).await;
        assert_eq!(output.status.code(), Some(126), "{options:?} {command}: {output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("commands are not allowed here, only a shell on a terminal and sftp"),
            "{said}"
        );
    }
    assert!(!server.files.path("work/done").exists());

    let mut terminal = Terminal::open(server.ssh(&[], ""), 24, 80);
    terminal.type_text("echo shell-$((6*7)); exit 4\n").await;
    terminal.expect("shell-42").await;
    assert_eq!(terminal.finish().await.1.code(), Some(4));
    let mut scp = server.client("scp");
    scp.arg(server.files.path("id.pub")).arg("x@127.0.0.1:copied");
    success(&run(scp, b"").await);
    assert!(server.files.path("work/copied").exists());

    // A command that the owner of the key file chose is not the user's.
    server.files.authorize(&format!(r#"command="echo chosen" {}"#, server.files.public_key("id")));
    assert_eq!(success(&server.run("anything").await), "chosen\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_forced_command_is_everybodys_and_wins_over_the_keys() {
    let server = TestServer::start_with(|config| {
        config.policy.command = Some("echo agent: $SSH_ORIGINAL_COMMAND".to_owned());
        config.policy.exec = false;
    })
    .await;
    for options in ["", r#"command="echo key" "#] {
        server.files.authorize(&format!("{options}{}", server.files.public_key("id")));
        assert_eq!(success(&server.run("rm -rf 'a b'").await), "agent: rm -rf 'a b'\n");
        assert_eq!(success(&run(server.ssh(&["-T"], ""), b"").await), "agent:\n");
        assert_eq!(success(&run(server.ssh(&["-s"], "sftp"), b"").await), "agent: internal-sftp\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_internal_sftp_is_file_transfer_alone() {
    let server = TestServer::start_with(|config| {
        config.policy.command = Some("internal-sftp".to_owned());
        config.policy.read_only_sftp = true;
    })
    .await;
    std::fs::write(server.files.path("work/file"), "fetched").expect("the file can be written");
    let here = server.files.path("here");
    let mut scp = server.client("scp");
    scp.arg("x@127.0.0.1:file").arg(&here);
    success(&run(scp, b"").await);
    assert_eq!(std::fs::read(&here).expect("it was fetched"), b"fetched");
    run(server.ssh(&["-T"], "touch done"), b"").await;
    run(server.ssh(&["-T"], ""), b"touch done\n").await;
    assert!(!server.files.path("work/done").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_the_agent_itself_are_not_forwarded() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let below = place.path().to_owned();
    let server = TestServer::start_with(|config| config.agent_dir = Some(below)).await;
    let service = tokio::net::UnixListener::bind(place.path().join("control")).expect("it can be bound");
    std::os::unix::fs::symlink(place.path(), server.files.path("link")).expect("it can be made");
    let (direct, linked) = (place.path().join("control"), server.files.path("link/control"));
    let (client, _opened) = log_in(&server, None).await;
    for path in [&direct, &linked] {
        let path = path.to_str().expect("UTF-8");
        client.channel_open_direct_streamlocal(path).await.expect_err("it is the agent's");
    }
    for name in ["new", "control"] {
        let path = server.files.path("link").join(name);
        client.streamlocal_forward(path.to_str().expect("UTF-8")).await.expect_err("it would be the agent's");
    }
    assert!(!place.path().join("new").exists());

    // Next to it everything is as usual.
    let other = tokio::net::UnixListener::bind(server.files.path("other-socket")).expect("it can be bound");
    let path = server.files.path("other-socket");
    client.channel_open_direct_streamlocal(path.to_str().expect("UTF-8")).await.expect("a channel");
    other.accept().await.expect("a connection");
    drop(service);
}

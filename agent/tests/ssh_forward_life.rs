//! Forwarded connections under load, at their ends, and what is told of them.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::forwarding::{Forwarding, client_with_agent, dial, echo, exchange, free_port, ssh_agent};
use common::{PATIENCE, TestServer, assert_same_bytes, is_running, noise, run, success, until};
use converge_agent::events::{Event, Events};
use converge_agent::life::activity::Activity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const MIB: usize = 1024 * 1024;

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

/// A moment that is later than whatever has happened, in the milliseconds that [`Activity`] counts.
async fn later() -> tokio::time::Instant {
    tokio::time::sleep(Duration::from_millis(3)).await;
    let now = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(3)).await;
    now
}

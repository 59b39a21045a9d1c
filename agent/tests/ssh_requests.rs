//! The protocol's smaller parts: keys and algorithms, keepalives, signals, breaks, and `ssh -O`.

mod common;

use std::process::{Output, Stdio};
use std::time::Duration;

use common::forwarding::text;
use common::library_client::log_in;
use common::terminal::Terminal;
use common::{PATIENCE, TestServer, assert_same_bytes, noise, run, success, until};
use converge_agent::ssh::{MAX_CHANNELS, MAX_LISTENING};
use russh::{ChannelMsg, Sig, kex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn keepalives_are_answered() {
    let server = TestServer::start().await;
    let options = ["-vvv", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    let mut ssh = server.ssh(&options, "cat");
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().expect("ssh is installed");
    let mut log = BufReader::new(ssh.stderr.take().expect("piped")).lines();
    // SSH_MSG_REQUEST_FAILURE, as OpenSSH's own server answers. A missing one would end the connection.
    let mut answers = 0;
    while answers < 3 {
        let line = tokio::time::timeout(PATIENCE, log.next_line()).await.expect("a keepalive's answer");
        let line = line.expect("text").unwrap_or_else(|| panic!("ssh ended after {answers} answers"));
        answers += usize::from(line.contains("receive packet: type 82"));
    }
    let (mut stdin, mut stdout) = (ssh.stdin.take().expect("piped"), ssh.stdout.take().expect("piped"));
    stdin.write_all(b"still here").await.expect("it takes it");
    drop(stdin);
    let mut output = String::new();
    stdout.read_to_string(&mut output).await.expect("text");
    assert_eq!(output, "still here");
    while let Ok(Some(_)) = log.next_line().await {}
    assert!(ssh.wait().await.expect("it was waited for").success());
}

/// A client that has closed its own direction may answer EOF with CLOSE, after which nothing more comes.
#[tokio::test(flavor = "multi_thread")]
async fn exit_status_comes_before_the_end_of_the_output() {
    let server = TestServer::start().await;
    let (client, _opened) = log_in(&server, None).await;
    for command in ["echo said; exit 7", "exit 7", "kill -TERM $$"] {
        let mut channel = client.channel_open_session().await.expect("a channel");
        channel.exec(true, command).await.expect("it is sent");
        let mut how = None;
        loop {
            match tokio::time::timeout(PATIENCE, channel.wait()).await.expect("the command ends") {
                Some(ChannelMsg::ExitStatus { exit_status }) => how = Some(exit_status),
                Some(ChannelMsg::ExitSignal { .. }) => how = Some(128 + 15),
                Some(ChannelMsg::Eof) => break,
                Some(_) => {}
                None => panic!("{command}: no end of the output"),
            }
        }
        assert!(how.is_some(), "{command}: EOF came first");
    }
}

/// How often `ssh -v` says that keys were exchanged, without the first time.
fn rekeyings(output: &Output) -> usize {
    text(&output.stderr).matches("SSH2_MSG_NEWKEYS received").count() - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_in_the_middle_of_bulk_whoever_asks_for_it() {
    let data = noise(40 * MIB);
    for (limit, rekey_bytes, expected) in [("1M", 1024 * MIB, 20), ("1G", 4 * MIB, 5), ("2M", 3 * MIB, 10)] {
        let server = TestServer::start_with(|config| config.rekey_bytes = rekey_bytes).await;
        let limit = format!("RekeyLimit={limit}");
        let output = run(server.ssh(&["-v", "-o", &limit], "cat"), &data).await;
        assert!(output.status.success(), "{limit} {rekey_bytes}: {}", text(&output.stderr));
        assert_same_bytes(&output.stdout, &data);
        let renewed = rekeyings(&output);
        assert!(renewed >= expected, "{limit} {rekey_bytes}: only {renewed} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_connections_and_file_transfers_survive_new_keys() {
    let server = TestServer::start_with(|config| config.rekey_bytes = 2 * MIB).await;
    let data = noise(20 * MIB);
    std::fs::write(server.files.path("work/there"), &data).expect("the file can be written");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (mut reader, mut writer) = stream.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.expect("it can be copied");
    });
    let output = run(server.ssh(&["-v", "-o", "RekeyLimit=1M", "-W", &target], ""), &data).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_same_bytes(&output.stdout, &data);
    assert!(rekeyings(&output) >= 10, "{}", rekeyings(&output));

    let mut sftp = server.client("sftp");
    sftp.args(["-q", "-o", "RekeyLimit=1M", "-b", "-", "x@127.0.0.1"]);
    let here = server.files.path("here");
    success(&run(sftp, format!("get there {0}\nput {0} back\n", here.display()).as_bytes()).await);
    assert_same_bytes(&std::fs::read(server.files.path("work/back")).expect("uploaded"), &data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_is_strict_and_has_nothing_old() {
    let server = TestServer::start().await;
    let output = run(server.ssh(&["-vv"], "true"), b"").await;
    let log = text(&output.stderr).replace('\r', "");
    assert!(output.status.success(), "{log}");
    // The answer to CVE-2023-48795, on both sides.
    assert!(log.contains("resetting send seqnr") && log.contains("resetting read seqnr"), "{log}");
    let (_, offers) = log.split_once("peer server KEXINIT proposal").expect("a proposal");
    let offered = |what: &str| {
        let line = offers.lines().find_map(|line| line.strip_prefix(&format!("debug2: {what}: ")));
        line.unwrap_or_else(|| panic!("no {what}: {log}")).to_owned()
    };
    assert_eq!(
        offered("KEX algorithms"),
        "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ext-info-s,\
         kex-strict-s-v00@openssh.com"
    );
    assert_eq!(offered("host key algorithms"), "ssh-ed25519");
    let ciphers = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,\
                   aes192-ctr,aes128-ctr";
    let macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
    for direction in ["ctos", "stoc"] {
        assert_eq!(offered(&format!("ciphers {direction}")), ciphers);
        assert_eq!(offered(&format!("MACs {direction}")), macs);
        assert_eq!(offered(&format!("compression {direction}")), "none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_algorithms_are_refused() {
    let server = TestServer::start().await;
    for (options, words) in [
        (&["KexAlgorithms=diffie-hellman-group1-sha1"][..], "key exchange method"),
        (&["KexAlgorithms=diffie-hellman-group14-sha1"], "key exchange method"),
        (&["KexAlgorithms=diffie-hellman-group-exchange-sha1"], "key exchange method"),
        (&["Ciphers=3des-cbc"], "cipher"),
        (&["Ciphers=aes128-cbc,aes256-cbc"], "cipher"),
        (&["Ciphers=aes128-ctr", "MACs=hmac-sha1,hmac-sha1-etm@openssh.com,hmac-md5"], "MAC"),
        (&["Ciphers=aes128-ctr", "MACs=hmac-sha2-256"], "MAC"),
        (&["HostKeyAlgorithms=ssh-rsa"], "host key type"),
    ] {
        let options: Vec<_> = options.iter().flat_map(|option| ["-o", option]).chain(["-v"]).collect();
        let output = run(server.ssh(&options, "true"), b"").await;
        assert_eq!(output.status.code(), Some(255), "{options:?}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("no matching {words} found")), "{options:?}: {said}");
    }
    for options in [["-o", "Ciphers=aes128-ctr"], ["-o", "KexAlgorithms=ecdh-sha2-nistp256"]] {
        success(&run(server.ssh(&options, "true"), b"").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_counts_with_sha_2_alone() {
    let server = TestServer::start().await;
    let key = server.files.path("rsa");
    let mut keygen = tokio::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&key);
    success(&run(keygen, b"").await);
    server.files.authorize(&server.files.public_key("rsa"));
    for (algorithm, accepted) in [("ssh-rsa", false), ("rsa-sha2-256", true), ("rsa-sha2-512", true)] {
        let mut ssh = server.files.client("ssh", server.port, "rsa");
        ssh.args(["-o", &format!("PubkeyAcceptedAlgorithms={algorithm}"), "x@127.0.0.1", "true"]);
        let output = run(ssh, b"").await;
        assert_eq!(output.status.success(), accepted, "{algorithm}: {output:?}");
    }
}

/// OpenSSH has it from 9.9 on only.
#[tokio::test(flavor = "multi_thread")]
async fn keys_can_be_agreed_on_in_a_way_that_quantum_computers_do_not_break() {
    let server = TestServer::start().await;
    let (client, _opened) = log_in(&server, Some(kex::MLKEM768X25519_SHA256)).await;
    let mut channel = client.channel_open_session().await.expect("a channel");
    channel.exec(true, "echo quantum").await.expect("it can be sent");
    assert_eq!(finish(&mut channel).await, ("quantum\n".to_owned(), Some(0)));
}

/// Everything a channel's program prints, and its exit status.
async fn finish(channel: &mut russh::Channel<russh::client::Msg>) -> (String, Option<u32>) {
    let (mut output, mut status) = (Vec::new(), None);
    let reading = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => output.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the channel ends");
    (text(&output), status)
}

/// As [`finish`], and sends the signal again and again: one that comes just before a shell begins to read is noticed
/// only when it has read.
async fn signalled_to_the_end(
    channel: &mut russh::Channel<russh::client::Msg>,
    signal: &Sig,
) -> (String, Option<u32>) {
    let (mut output, mut status) = (String::new(), None);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let reading = async {
        loop {
            let message = tokio::select! {
                _ = ticks.tick(), if status.is_none() => {
                    channel.signal(signal.clone()).await.expect("it can be sent");
                    continue;
                }
                message = channel.wait() => message,
            };
            match message {
                Some(ChannelMsg::Data { data }) => output += &text(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(_) => {}
                None => return,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the channel ends");
    (output, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_programs_with_and_without_a_terminal() {
    let server = TestServer::start().await;
    let (client, _opened) = log_in(&server, None).await;
    for terminal in [false, true] {
        for (signal, name) in [(Sig::INT, "INT"), (Sig::USR1, "USR1"), (Sig::TERM, "TERM")] {
            let mut channel = client.channel_open_session().await.expect("a channel");
            if terminal {
                channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.expect("it can be sent");
            }
            // A shell runs its trap when what it waits for ends; `read` is part of the shell.
            let command =
                format!("trap 'echo got {name}; exit 9' {name}; echo armed; while :; do read -t 100 x; done");
            channel.exec(true, command).await.expect("it can be sent");
            let mut seen = String::new();
            let armed = async {
                while !seen.contains("armed") {
                    let message = channel.wait().await.expect("the channel is open");
                    if let ChannelMsg::Data { data } = message {
                        seen += &text(&data);
                    }
                }
            };
            tokio::time::timeout(PATIENCE, armed).await.expect("the program runs");
            let (output, status) = signalled_to_the_end(&mut channel, &signal).await;
            assert!(output.contains(&format!("got {name}")), "terminal: {terminal}: {output:?}");
            assert_eq!(status, Some(9), "{name}, terminal: {terminal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_does_no_harm() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::open(server.ssh(&["-tt"], ""), 24, 80);
    terminal.type_text("PS1=; echo READY-$((6*7))\n").await;
    terminal.expect("READY-42").await;
    // The escape that sends one; a terminal made of software has no line to break.
    terminal.type_text("~B").await;
    terminal.type_text("echo alive-$((1+1))\n").await;
    terminal.expect("alive-2").await;
    terminal.type_text("exit 5\n").await;
    assert_eq!(terminal.finish().await.1.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_master_obeys() {
    let server = TestServer::start().await;
    let path = server.files.path("control");
    let control = format!("ControlPath={}", path.display());
    let mut master = server.ssh(&["-M", "-N", "-o", &control, "-o", "ControlPersist=no"], "");
    let mut master = master.spawn().expect("ssh is installed");
    until("the control socket", || path.exists()).await;
    let tell = |arguments: &[&str]| {
        let mut ssh = server.client("ssh");
        ssh.args(["-o", &control, "-O"]).args(arguments).arg("x@127.0.0.1");
        run(ssh, b"")
    };
    assert!(text(&tell(&["check"]).await.stderr).contains("Master running"));
    let (here, there) = (server.files.path("here"), server.files.path("work/there"));
    let service = tokio::net::UnixListener::bind(&there).expect("it can be bound");
    let forward = format!("{}:{}", here.display(), there.display());
    success(&tell(&["forward", "-L", &forward]).await);
    let mut stream = tokio::net::UnixStream::connect(&here).await.expect("ssh listens");
    let (mut in_job, _) = service.accept().await.expect("a connection");
    in_job.write_all(b"x").await.expect("it takes it");
    stream.read_exact(&mut [0]).await.expect("it arrives");
    success(&tell(&["cancel", "-L", &forward]).await);
    until("ssh listens no more", || std::os::unix::net::UnixStream::connect(&here).is_err()).await;
    assert_eq!(success(&run(server.ssh(&["-o", &control], "echo through"), b"").await), "through\n");
    // `stop` takes no new users; `exit` ends.
    success(&tell(&["exit"]).await);
    let ended = tokio::time::timeout(PATIENCE, master.wait()).await.expect("it ends");
    assert!(ended.is_ok() && !path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_listens_in_so_many_places_and_no_more() {
    let server = TestServer::start().await;
    let (client, _opened) = log_in(&server, None).await;
    let mut ports = Vec::new();
    for _ in 0..MAX_LISTENING {
        ports.push(client.tcpip_forward("127.0.0.1", 0).await.expect("there is room"));
    }
    client.tcpip_forward("127.0.0.1", 0).await.expect_err("one too many");
    client.streamlocal_forward("one_more").await.expect_err("sockets count, too");
    client.cancel_tcpip_forward("127.0.0.1", ports[7]).await.expect("it is there");
    client.cancel_tcpip_forward("127.0.0.1", ports[7]).await.expect_err("it was there");
    std::net::TcpListener::bind(("127.0.0.1", u16::try_from(ports[7]).expect("a port")))
        .expect("free at once");
    client.tcpip_forward("127.0.0.1", 0).await.expect("there is room again");
    client.tcpip_forward("some.name", 0).await.expect_err("names are not looked up");

    // A socket whose file somebody has removed can be had again, and takes no second place.
    for port in [ports[8], ports[9]] {
        client.cancel_tcpip_forward("127.0.0.1", port).await.expect("it is there");
    }
    let socket = server.files.path("work/socket");
    for _ in 0..3 {
        client.streamlocal_forward("socket").await.expect("there is room");
        client.streamlocal_forward("socket").await.expect_err("it is there");
        std::fs::remove_file(&socket).expect("it is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_outside_leaves_room_for_the_user() {
    let server = TestServer::start().await;
    let (client, mut opened) = log_in(&server, None).await;
    let port = client.tcpip_forward("127.0.0.1", 0).await.expect("a port");
    let port = u16::try_from(port).expect("a port");
    let mut flood = Vec::new();
    let (mut unanswered, mut refused) = (Vec::new(), 0);
    // None of them is answered, so all of them wait.
    while refused == 0 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("somebody listens");
        tokio::select! {
            arrived = opened.recv() => unanswered.push(arrived.expect("the connection lives")),
            closed = stream.read_u8() => {
                closed.expect_err("nobody writes");
                refused += 1;
            }
        }
        flood.push(stream);
        assert!(flood.len() <= MAX_CHANNELS, "there is no limit");
    }
    let mut channel = client.channel_open_session().await.expect("a channel for the user");
    channel.exec(true, "echo in").await.expect("it can be sent");
    assert_eq!(finish(&mut channel).await, ("in\n".to_owned(), Some(0)));

    // Answered late, half of them in each way, they all end well.
    for (index, (channel, reply)) in unanswered.drain(..).enumerate() {
        if index % 2 == 0 {
            reply.accept().await;
            channel.close().await.expect("it can be sent");
        } else {
            drop(reply);
        }
    }
    for mut stream in flood {
        let ended = tokio::time::timeout(PATIENCE, stream.read_u8());
        ended.await.expect("every connection ends").expect_err("nobody writes");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("somebody listens");
    let (mut channel, reply) = opened.recv().await.expect("the connection lives");
    reply.accept().await;
    stream.write_all(b"room again").await.expect("it takes it");
    stream.shutdown().await.expect("it can be ended");
    let arrived = async {
        loop {
            if let Some(ChannelMsg::Data { data }) = channel.wait().await {
                return data;
            }
        }
    };
    assert_eq!(&tokio::time::timeout(PATIENCE, arrived).await.expect("it arrives")[..], b"room again");
}

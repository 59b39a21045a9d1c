//! Nonsense, from the command line and from the network, while an honest session goes on.

use anyhow::{Context, Result};
use converge_interop_tests::{Agent, Process, Setup, process::run};
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};
use tokio_tungstenite::tungstenite::{
    ClientRequestBuilder, Error, Message, WebSocket, client, http::Uri, protocol::frame::coding::CloseCode,
};

on_both_carriers! {
    senseless_command_lines_are_refused_in_plain_words,
    unreachable_relays_are_named,
    unknown_id_is_named,
    noise_on_the_relays_ports_disturbs_nobody,
    senseless_frames_disturb_nobody,
    peers_that_say_nothing_are_let_go,
    end_of_input_ends_a_session,
    damaged_host_key_is_named,
}

/// A session that must survive everything.
struct Honest(Process);

impl Honest {
    fn start(setup: &Setup) -> Result<Self> {
        let mut ssh = setup.openssh("ssh")?;
        Ok(Self(Process::start_with_input("honest", ssh.arg("cat"), setup.path())?))
    }

    fn is_well(&mut self) -> Result<()> {
        self.0.write_line("well?")?;
        self.0.wait_for("an echo", |line| (line == "well?").then_some(()))
    }

    /// It is well, and so are others.
    fn finish(mut self, setup: &Setup) -> Result<()> {
        self.is_well()?;
        self.0.end_input();
        assert!(self.0.wait()?.success());
        run(setup.openssh("ssh")?.arg("true"), b"")?.success()?;
        Ok(())
    }
}

/// Runs `converge` and checks its exit status and that it says one plain line. Returns the line.
fn refused(setup: &Setup, arguments: &[&str], status: i32) -> Result<String> {
    let output = run(setup.converge()?.args(arguments), b"")?;
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", output.stderr);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    Ok(output.stderr)
}

fn senseless_command_lines_are_refused_in_plain_words(setup: &mut Setup) -> Result<()> {
    for address in
        ["Upper", "-dash", "dash-", "a_b", "", "id.short", "https://relay/", "ftp://relay/client/id"]
    {
        for command in ["proxy", "ssh", "sftp", "scp", "listen", "host-key"] {
            refused(setup, &[command, "--", address], 2)?;
        }
    }
    let too_long = "a".repeat(64);
    assert!(refused(setup, &["proxy", &too_long], 2)?.contains("63"));
    assert!(refused(setup, &["--wait", "soon", "proxy", "id"], 2)?.contains("--wait"));
    let nowhere =
        run(setup.converge()?.env("XDG_CONFIG_HOME", setup.path()).args(["proxy", "some-id"]), b"")?;
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(nowhere.stderr.starts_with("converge: no relay is known for some-id: "), "{}", nowhere.stderr);
    Ok(())
}

fn unreachable_relays_are_named(setup: &mut Setup) -> Result<()> {
    let unknown = refused(setup, &["proxy", "https://relay.invalid:4433/client/some-id"], 4)?;
    assert!(
        unknown.starts_with("converge: cannot connect to the relay: cannot resolve relay.invalid"),
        "{unknown}"
    );
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = refused(setup, &["proxy", &format!("https://{free}/client/some-id")], 4)?;
    assert!(nobody.contains(&free.to_string()), "{nobody}");
    Ok(())
}

fn unknown_id_is_named(setup: &mut Setup) -> Result<()> {
    let address = setup.agent.address.replace(&setup.agent.id, "no-such-id");
    for command in ["proxy", "host-key"] {
        let text = refused(setup, &[command, &address], 3)?;
        assert!(text.contains("no agent has the ID no-such-id") && text.contains("--wait"), "{text}");
    }
    let ssh = run(setup.openssh_to("ssh", &address)?.arg("true"), b"")?;
    assert_eq!(ssh.status.code(), Some(3), "{}", ssh.stderr);
    Ok(())
}

/// `HOST:PORT` of the relay's encrypted and of its cleartext listener.
fn authorities(setup: &Setup) -> Result<[String; 2]> {
    let url = setup.relay.url.strip_prefix("https://").context("an https URL")?;
    let (encrypted, _pin) = url.split_once('#').context("a pin")?;
    Ok([encrypted.to_owned(), setup.relay.http.trim_start_matches("ws://").to_owned()])
}

fn noise_on_the_relays_ports_disturbs_nobody(setup: &mut Setup) -> Result<()> {
    let mut honest = Honest::start(setup)?;
    let [encrypted, cleartext] = authorities(setup)?;
    let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for authority in [&encrypted, &cleartext] {
        for start in [0, 1, 7, 1000] {
            let mut stream = TcpStream::connect(authority)?;
            // The relay may have closed before all of it is written.
            let _ = stream.write_all(&noise[start..]);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // Gone in the middle of a word.
        TcpStream::connect(authority)?.write_all(b"GET /cli")?;
    }
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for len in [0, 1, 20, 50, 1199, 1200, 1500] {
        for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
            let mut datagram = noise[..len].to_vec();
            datagram[..len.min(1)].fill(first);
            socket.send_to(&datagram, &encrypted)?;
        }
    }
    honest.is_well()?;
    honest.finish(setup)
}

/// A WebSocket to the cleartext listener, with our subprotocol or without.
fn websocket(setup: &Setup, path: &str, subprotocol: Option<&str>) -> Result<WebSocket<TcpStream>> {
    let [_, cleartext] = authorities(setup)?;
    let stream = TcpStream::connect(&cleartext)?;
    stream.set_read_timeout(Some(converge_interop_tests::process::PATIENCE))?;
    let mut request = ClientRequestBuilder::new(format!("ws://{cleartext}{path}").parse::<Uri>()?);
    if let Some(subprotocol) = subprotocol {
        request = request.with_sub_protocol(subprotocol);
    }
    let (websocket, _) = client(request, stream).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(websocket)
}

/// How the relay ends a WebSocket.
#[derive(Default)]
struct Ending {
    last_message: Vec<u8>,
    code: Option<CloseCode>,
}

/// The number of the frame with which a relay says no.
const REFUSED_FRAME: u8 = 0x0a;

/// Reads to the end, which the relay must bring about.
fn read_to_end(mut websocket: WebSocket<TcpStream>) -> Ending {
    let mut ending = Ending::default();
    loop {
        match websocket.read() {
            Ok(Message::Close(frame)) => ending.code = frame.map(|frame| frame.code),
            Ok(Message::Binary(bytes)) if !bytes.is_empty() => ending.last_message = bytes.to_vec(),
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the relay lets the connection be");
            }
            Err(_) => return ending,
        }
    }
}

fn senseless_frames_disturb_nobody(setup: &mut Setup) -> Result<()> {
    let mut honest = Honest::start(setup)?;
    let path = format!("/client/{}", setup.agent.id);
    // 2^62 - 1 bytes announced; an unknown even type; an empty frame of a known type; a frame of another place; noise.
    let huge = [&[0x10][..], &[0xff; 8]].concat();
    for frame in [huge, vec![0x3e, 0x00], vec![0x10, 0x00], vec![0x02, 0x01, 0xff], vec![0x80; 100]] {
        let mut websocket = websocket(setup, &path, Some("converge.1"))?;
        websocket.send(Message::binary(frame.clone()))?;
        let Ending { last_message, .. } = read_to_end(websocket);
        assert_eq!(last_message.first(), Some(&REFUSED_FRAME), "after {frame:?}");
        honest.is_well()?;
    }
    let mut agent = websocket(setup, "/agent", Some("converge.1"))?;
    agent.send(Message::binary(vec![0x80; 100]))?;
    read_to_end(agent);
    // Text is never ours: neither as the first word nor within a session.
    for subprotocol in [None, Some("converge.1")] {
        let mut websocket = websocket(setup, &path, subprotocol)?;
        websocket.send(Message::text("SSH-2.0-text\r\n"))?;
        let Ending { last_message, code } = read_to_end(websocket);
        let is_told = match subprotocol {
            None => code.is_some_and(|code| code != CloseCode::Normal),
            Some(_) => last_message.first() == Some(&REFUSED_FRAME),
        };
        assert!(is_told, "{subprotocol:?}: {code:?} {last_message:?}");
        honest.is_well()?;
    }
    // What a session carries is the agent's to judge.
    let mut raw = websocket(setup, &path, None)?;
    raw.send(Message::binary(vec![0xa5; 100_000]))?;
    read_to_end(raw);
    honest.finish(setup)
}

fn peers_that_say_nothing_are_let_go(setup: &mut Setup) -> Result<()> {
    let honest = Honest::start(setup)?;
    let [encrypted, cleartext] = authorities(setup)?;
    let mut silent = Vec::new();
    for (authority, half) in
        [(&encrypted, ""), (&cleartext, ""), (&cleartext, "GET /healthz HTTP/1.1\r\nHost: x\r\n")]
    {
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(half.as_bytes())?;
        silent.push((stream, half));
    }
    let quiet = websocket(setup, &format!("/client/{}", setup.agent.id), Some("converge.1"))?;
    for (mut stream, half) in silent {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(|| format!("after {half:?}"))?;
    }
    read_to_end(quiet);
    honest.finish(setup)
}

fn end_of_input_ends_a_session(setup: &mut Setup) -> Result<()> {
    let output = run(setup.converge()?.args(["proxy", &setup.agent.address]), b"")?;
    assert!(output.text().starts_with("SSH-2.0-"), "{}", output.stderr);
    assert!(output.status.code().is_some());
    let garbage = run(setup.converge()?.args(["proxy", &setup.agent.address]), &vec![0; 100_000])?;
    assert!(garbage.status.code().is_some());
    run(setup.openssh("ssh")?.arg("true"), b"")?.success()?;
    Ok(())
}

fn damaged_host_key_is_named(setup: &mut Setup) -> Result<()> {
    let directory = setup.path().join("damaged");
    std::fs::create_dir(&directory)?;
    std::fs::write(directory.join("host_key"), "garbage")?;
    let mut command = Agent::command(&setup.job(), &setup.relay.url)?;
    let output = run(command.arg("--dir").arg(&directory), b"")?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("damaged/host_key") && output.stderr.contains("remove the file"),
        "{}",
        output.stderr
    );
    Ok(())
}

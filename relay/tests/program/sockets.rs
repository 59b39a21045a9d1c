//! Sockets that a service manager holds.

use crate::relay::{Files, Running, soon};
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

/// TCP and UDP on one port, and cleartext HTTP, as a manager would hold them.
struct Held {
    tcp: TcpListener,
    udp: UdpSocket,
    http: TcpListener,
}

impl Held {
    fn new() -> Self {
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (tcp, udp) = soon("a port that is free for both", || {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
            Some((tcp, udp))
        });
        Self { tcp, udp, http }
    }

    /// A relay that is given them, with these names. A shell hands them on: it has them as 0 to 2.
    fn relay(&self, files: &Files, names: &str) -> Command {
        let relay = files.relay();
        let mut shell = files.clean("/bin/sh");
        let line = "exec 3<&0 4<&1 5<&2 </dev/null >out 2>log
                    LISTEN_FDS=3 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        shell.args(["-c", line]).arg(relay.get_program()).args(relay.get_args());
        let stdio = |fd: OwnedFd| Stdio::from(fd);
        shell
            .env("LISTEN_FDNAMES", names)
            .stdin(stdio(self.tcp.try_clone().unwrap().into()))
            .stdout(stdio(self.udp.try_clone().unwrap().into()))
            .stderr(stdio(self.http.try_clone().unwrap().into()));
        shell
    }
}

/// Asks for the relay's health, in clear.
fn health(http: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn relay_can_be_restarted_without_a_refused_connection() {
    // An address that is not used: what is passed goes before it.
    let files = Files::new("[listen]\nlisten = '192.0.2.1:1'\n");
    let held = Held::new();
    let http = held.http.local_addr().unwrap();
    let mut relay = Running::of(&files, &mut held.relay(&files, "listen:listen:http"));
    let url = relay.printed("relay: ");
    assert!(url.starts_with(&format!("https://{}#", held.udp.local_addr().unwrap())), "{url}");
    assert_eq!(relay.printed("http: "), format!("ws://{http}"));
    assert!(health(http).unwrap().ends_with("ok\n"));
    // Checks see where it listens, and a reload does not take the file's address for a change.
    relay.signal(Signal::HUP);
    relay.logs("the configuration was read again");

    relay.signal(Signal::TERM);
    assert!(relay.ended().success());
    assert!(!relay.log().contains("by a restart"), "{}", relay.log());
    // Nobody is there, and nobody is refused.
    let waiting = std::thread::spawn(move || health(http));
    let mut next = Running::of(&files, &mut held.relay(&files, "listen:listen:http"));
    assert_eq!(next.printed("relay: "), url);
    assert!(waiting.join().unwrap().unwrap().ends_with("ok\n"));
}

#[test]
fn sockets_are_told_by_type_and_those_that_cannot_be_told_are_refused() {
    let files = Files::new("");
    let held = Held::new();
    let mut relay = Running::of(&files, &mut held.relay(&files, "unknown:unknown:http"));
    assert!(relay.printed("http: ").starts_with("ws://127.0.0.1:"));
    drop(relay);
    for (names, said) in [
        ("unknown:unknown:unknown", "FileDescriptorName=http"),
        ("listen:http:http", "HTTP needs a TCP socket"),
    ] {
        let mut relay = Running::of(&files, &mut held.relay(&files, names));
        assert_eq!(relay.ended().code(), Some(1));
        assert!(relay.log().contains(said), "{}", relay.log());
    }
}

#[test]
fn passed_sockets_of_different_addresses_are_refused() {
    let files = Files::new("");
    let held = Held { udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), ..Held::new() };
    let mut relay = Running::of(&files, &mut held.relay(&files, "listen:listen:http"));
    assert_eq!(relay.ended().code(), Some(1));
    let log = relay.log();
    assert!(
        log.contains(&held.udp.local_addr().unwrap().to_string()) && log.contains("different addresses"),
        "{log}"
    );
}

/// systemd's own program holds the socket, and starts the relay when somebody comes.
#[test]
fn systemd_passes_a_socket_by_name() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\n");
    // Ports of 127.0.0.1 are given to whoever asks next; those of an address of this process are not.
    let [_, one, two, three] = std::process::id().to_be_bytes();
    let any = SocketAddr::from((Ipv4Addr::new(127, one.max(1), two, three.clamp(2, 254)), 0));
    let http = TcpListener::bind(any).unwrap().local_addr().unwrap();
    let relay = files.relay();
    let mut systemd = files.clean("systemd-socket-activate");
    systemd
        .args(["--listen", &http.to_string(), "--fdname=http"])
        .arg(relay.get_program())
        .args(relay.get_args());
    let mut relay = Running::start(&files, &mut systemd);
    let answer = soon("an answer", || health(http).ok());
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert_eq!(relay.printed("http: "), format!("ws://{http}"));
    relay.signal(Signal::TERM);
    assert!(relay.ended().success());
}

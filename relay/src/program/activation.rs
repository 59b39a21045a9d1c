//! Sockets that a service manager has opened for the relay (socket activation, `sd_listen_fds(3)`). They outlive a relay,
//! so that it can be started again while connections wait for the next one.

use crate::sockets::{Passed, Sockets};
use anyhow::{Context, anyhow, ensure};
use listenfd::ListenFd;
use std::net::{TcpListener, UdpSocket};

/// The name of the socket for cleartext HTTP.
const HTTP: &str = "http";

/// Takes the sockets that this process was started with. Before any thread is started: it takes variables out of the
/// environment.
///
/// A socket named `http` is for cleartext HTTP. Any other is told by its type: UDP for QUIC, TCP for HTTPS.
pub(super) fn sockets() -> anyhow::Result<(Sockets, Passed)> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        let socket = take(&mut passed, index);
        add(&mut sockets, name, socket)
            .with_context(|| format!("cannot use socket {} ({name:?}) of the service manager", index + 1))?;
    }
    let addresses = sockets.passed().context("cannot use the sockets of the service manager")?;
    Ok((sockets, addresses))
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

fn take(passed: &mut ListenFd, index: usize) -> Option<Socket> {
    // Of another type it stays, and the next question is about the same.
    if let Ok(Some(tcp)) = passed.take_tcp_listener(index) {
        return Some(Socket::Tcp(tcp));
    }
    passed.take_udp_socket(index).ok().flatten().map(Socket::Udp)
}

fn add(sockets: &mut Sockets, name: &str, socket: Option<Socket>) -> anyhow::Result<()> {
    let socket = socket.ok_or_else(|| anyhow!("it is neither TCP nor UDP"))?;
    let twice = match socket {
        Socket::Tcp(tcp) if name == HTTP => sockets.http.replace(tcp).is_some(),
        Socket::Tcp(tcp) => sockets.tcp.replace(tcp).is_some(),
        Socket::Udp(udp) => {
            ensure!(name != HTTP, "HTTP needs a TCP socket (ListenStream=)");
            sockets.udp.replace(udp).is_some()
        }
    };
    ensure!(
        !twice,
        "there is another one for the same; name that for cleartext HTTP with FileDescriptorName=http"
    );
    Ok(())
}

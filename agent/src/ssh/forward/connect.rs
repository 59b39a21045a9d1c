//! Connections to where a client's forward leads: a host and port, or a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use converge_transport::names;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::platform::local_socket::{self, Halves};

/// How long it may take to look a name up and to reach one of its addresses.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long to wait before a Unix socket with a full queue is tried again.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// Connects to the first address of `host` that answers. The error is for the user.
///
/// An address that does not answer leaves time for those behind it.
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let deadline = Instant::now() + CONNECT_TIME;
    let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let addresses = match timeout_at(deadline, names::lookup(host, port)).await {
        Err(_) => return Err(format!("cannot look up {host}: no answer within {CONNECT_TIME:?}")),
        Ok(Err(error)) => return Err(format!("cannot look up {host}: {}", words(&error))),
        Ok(Ok(addresses)) => addresses,
    };
    let mut trouble = "it has no address".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let patience = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => trouble = words(&error),
            Err(_) => trouble = format!("no answer within {CONNECT_TIME:?}"),
        }
    }
    Err(format!("cannot connect to {name}: {trouble}"))
}

/// Connects to a Unix socket. The error is for the user.
pub(super) async fn unix(path: &Path) -> Result<Halves, String> {
    let deadline = Instant::now() + CONNECT_TIME;
    loop {
        let trouble = match local_socket::connect(path).await {
            Ok(stream) => return Ok(stream),
            // The socket's queue is full, and the system has no way of telling when it no longer is.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() < deadline {
                    sleep(QUEUE_PAUSE).await;
                    continue;
                }
                format!("too many wait there already, for {CONNECT_TIME:?}")
            }
            Err(error) => words(&error),
        };
        return Err(format!("cannot connect to {}: {trouble}", path.display()));
    }
}

/// The system's own words without Rust's "(os error 111)".
pub(super) fn words(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" (os error ") {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn a_socket_whose_queue_is_full_is_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("socket");
        let socket = tokio::net::UnixSocket::new_stream().expect("a socket");
        socket.bind(&path).expect("it can be bound");
        let listener = socket.listen(1).expect("it can listen");
        let mut waiting = Vec::new();
        while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
            waiting.push(stream);
        }
        let accepting = async {
            for _ in 0..=waiting.len() {
                listener.accept().await.expect("a connection");
            }
        };
        let (connected, ()) = tokio::join!(unix(&path), accepting);
        connected.expect("there is room");
    }

    #[tokio::test]
    async fn every_address_is_tried_and_the_last_trouble_is_said() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        // In most places this is ::1 first, where nobody listens.
        tcp("localhost", port).await.expect("one of the addresses");
        drop(listener);
        assert_eq!(
            tcp("localhost", port).await.expect_err("nobody listens"),
            format!("cannot connect to localhost:{port}: Connection refused")
        );
        assert!(tcp("", port).await.expect_err("no name").starts_with("cannot "));
    }
}

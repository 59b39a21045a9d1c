//! Connections to where a client's forward leads: a host and port, or a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

/// How long it may take to look a name up and to reach one of its addresses.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Connects to the first address of `host` that answers. The error is for the user.
///
/// An address that does not answer leaves time for those behind it.
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let deadline = Instant::now() + CONNECT_TIME;
    let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let addresses: Vec<_> = match timeout_at(deadline, lookup_host((host, port))).await {
        Err(_) => return Err(format!("cannot look up {host}: no answer within {CONNECT_TIME:?}")),
        Ok(Err(error)) => return Err(format!("cannot look up {host}: {}", words(&error))),
        Ok(Ok(addresses)) => addresses.collect(),
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
pub(super) async fn unix(path: &Path) -> Result<UnixStream, String> {
    let name = path.display();
    // Waits when the socket's queue is full.
    match timeout(CONNECT_TIME, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot connect to {name}: {}", words(&error))),
        Err(_) => Err(format!("cannot connect to {name}: no answer within {CONNECT_TIME:?}")),
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

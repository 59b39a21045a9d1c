use std::io;

use tokio::net::TcpSocket;

/// `WSAEAFNOSUPPORT`.
const AF_NOT_SUPPORTED: i32 = 10_047;

/// Whether the machine has no addresses of this kind at all.
pub(crate) fn is_without_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(AF_NOT_SUPPORTED)
}

/// Nothing has to be done: connections that are still being closed keep nobody from their port here, and the option of
/// that name lets two programs share one.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it is a setting of the socket")]
pub(crate) fn may_be_bound_again(_: &TcpSocket) -> io::Result<()> {
    Ok(())
}

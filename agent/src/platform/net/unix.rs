use std::io;

use rustix::io::Errno;
use tokio::net::TcpSocket;

/// Whether the machine has no addresses of this kind at all.
pub(crate) fn is_without_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Lets connections of an earlier listener, which are still being closed, not keep a new one from its port.
pub(crate) fn may_be_bound_again(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

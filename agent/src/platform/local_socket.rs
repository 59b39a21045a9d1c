//! Sockets that programs of this machine alone can reach, by a path: Unix sockets, where the system has them.

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Listener, connect};
#[cfg(windows)]
pub(crate) use windows::{Listener, connect};

/// The two directions of a connection.
pub(crate) type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

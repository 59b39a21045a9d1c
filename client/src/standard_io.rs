//! Standard input and output without a blocking thread per direction where they are pipes, as in a `ProxyCommand`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::unix::pipe,
};

/// What a pipe is asked to hold, in bytes; the system's own limit may give less. Fewer, larger reads.
const PIPE_BYTES: usize = 1024 * 1024;

/// Standard input.
pub fn input() -> Box<dyn AsyncRead + Unpin + Send> {
    match own(io::stdin()).and_then(pipe::Receiver::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        // A terminal, a file or a socket.
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// Standard output.
pub fn output() -> Box<dyn AsyncWrite + Unpin + Send> {
    match own(io::stdout()).and_then(pipe::Sender::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

fn own(stdio: impl AsFd) -> io::Result<OwnedFd> {
    let fd = stdio.as_fd().try_clone_to_owned()?;
    #[cfg(target_os = "linux")]
    // Not a pipe, or not allowed: it works as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE_BYTES);
    Ok(fd)
}

//! The agent's SFTP server on standard input and output, for `sftp -D`: relative paths start in the current directory.

use std::{
    error::Error,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use converge_agent::sftp::{self, SftpConfig};
use rustix::fs::FileType;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::pipe},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = SftpConfig { root_dir: std::env::current_dir()?, read_only: false };
    sftp::serve(input()?, output()?, config).await?;
    Ok(())
}

/// Standard input as what it is: sockets and pipes need no thread in between.
fn input() -> io::Result<Box<dyn AsyncRead + Unpin + Send>> {
    let stdin = io::stdin();
    Ok(match file_type(stdin.as_fd())? {
        FileType::Socket => Box::new(socket(stdin.as_fd())?),
        FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(stdin.as_fd().try_clone_to_owned()?)?),
        _ => Box::new(tokio::io::stdin()),
    })
}

fn output() -> io::Result<Box<dyn AsyncWrite + Unpin + Send>> {
    let stdout = io::stdout();
    Ok(match file_type(stdout.as_fd())? {
        FileType::Socket => Box::new(socket(stdout.as_fd())?),
        FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(stdout.as_fd().try_clone_to_owned()?)?),
        _ => Box::new(tokio::io::stdout()),
    })
}

fn file_type(descriptor: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

fn socket(descriptor: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let socket = StdUnixStream::from(descriptor.try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

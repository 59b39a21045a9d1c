//! A Unix socket in the agent directory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::FILE;

/// The longest path that fits into a Unix socket's address everywhere.
const MAX_PATH_BYTES: usize = 100;

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct ControlListener {
    listener: UnixListener,
    /// Keeps the path of the socket valid.
    _open: Option<File>,
}

impl ControlListener {
    /// Listens in `directory`, which is locked for this process: a socket that is there is a leftover.
    pub(crate) fn bind(directory: &Path) -> io::Result<Self> {
        let (path, open) = socket_path(directory)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(path)?, _open: open })
    }

    /// The next connection. Cancel-safe.
    pub(crate) async fn accept(&mut self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Sends a line to the agent of `directory`, and returns its answer with the end of line, at most so many bytes of it.
/// Blocking, for at most `limit` per piece. [`NotFound`](io::ErrorKind::NotFound) and
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) mean that no agent is there.
pub(crate) fn exchange(
    directory: &Path,
    line: &[u8],
    answer_bytes: u64,
    limit: Duration,
) -> io::Result<Vec<u8>> {
    let (path, _open) = socket_path(directory)?;
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(answer_bytes)).read_until(b'\n', &mut answer)?;
    Ok(answer)
}

/// A path for the socket in `directory` that a socket's address has room for. The file, if there is one, must stay open
/// while the path is used.
fn socket_path(directory: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = directory.join(FILE);
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return Ok((path, None));
    }
    // The directories of some runners have long names; an open directory has a short one.
    let open = File::open(directory)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    let short = Path::new("/proc/self/fd").join(number.to_string());
    if !short.exists() {
        let text = format!("the path {} is too long for a socket; choose a shorter --dir", path.display());
        return Err(io::Error::other(text));
    }
    Ok((short.join(FILE), Some(open)))
}

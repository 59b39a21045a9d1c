//! A named pipe. Its name is random, and is in a file in the agent directory.
//!
//! Who has no access to that file does not know where to ask. Who finds the name elsewhere has no access to the pipe: by
//! default the system lets its owner, administrators and itself write to it, and others read at most. Other machines
//! are kept out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

use super::FILE;

const PREFIX: &str = r"\\.\pipe\converge-agent-";
/// The longest name that is read from a file, in bytes.
const MAX_NAME_BYTES: u64 = 256;

/// `ERROR_PIPE_BUSY`: somebody else is being taken at this moment.
const PIPE_BUSY: i32 = 231;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// `SECURITY_IDENTIFICATION`: the other end may ask who we are, and not act as us.
const IDENTIFICATION: u32 = 0x0001_0000;

/// A pipe that listens.
#[derive(Debug)]
pub(crate) struct ControlListener {
    name: String,
    /// The end that the next one who asks is connected to.
    waiting: NamedPipeServer,
}

impl ControlListener {
    /// Listens, and says in `directory` where. That is locked for this process: a file that is there is a leftover.
    pub(crate) fn bind(directory: &Path) -> io::Result<Self> {
        let name = format!("{PREFIX}{:032x}", rand::random::<u128>());
        let waiting = options().first_pipe_instance(true).create(&name)?;
        std::fs::write(directory.join(FILE), &name)?;
        Ok(Self { name, waiting })
    }

    /// The next connection. Cancel-safe.
    pub(crate) async fn accept(&mut self) -> io::Result<NamedPipeServer> {
        if let Err(error) = self.waiting.connect().await {
            // Somebody who came and went; the end is free for the next one.
            let _ = self.waiting.disconnect();
            return Err(error);
        }
        let next = options().create(&self.name)?;
        Ok(std::mem::replace(&mut self.waiting, next))
    }
}

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.reject_remote_clients(true);
    options
}

/// Sends a line to the agent of `directory`, and returns its answer with the end of line, at most so many bytes of it.
/// Blocking, for at most `limit`. [`NotFound`](io::ErrorKind::NotFound) means that no agent is there.
pub(crate) fn exchange(
    directory: &Path,
    line: &[u8],
    answer_bytes: u64,
    limit: Duration,
) -> io::Result<Vec<u8>> {
    let mut name = String::new();
    File::open(directory.join(FILE))?.take(MAX_NAME_BYTES).read_to_string(&mut name)?;
    if !name.starts_with(PREFIX) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its control file names no pipe"));
    }
    let deadline = Instant::now() + limit;
    let pipe = connect(&name, deadline)?;
    // A file has no time limits; a thread that waits in vain ends with this program.
    let ((sender, answer), line) = (mpsc::sync_channel(1), line.to_vec());
    thread::spawn(move || sender.send(ask(pipe, &line, answer_bytes)));
    answer
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

fn connect(name: &str, deadline: Instant) -> io::Result<File> {
    loop {
        match OpenOptions::new().read(true).write(true).security_qos_flags(IDENTIFICATION).open(name) {
            Err(error) if error.raw_os_error() == Some(PIPE_BUSY) && Instant::now() < deadline => {
                thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

fn ask(mut pipe: File, line: &[u8], answer_bytes: u64) -> io::Result<Vec<u8>> {
    pipe.write_all(line)?;
    let mut answer = Vec::new();
    BufReader::new(pipe.take(answer_bytes)).read_until(b'\n', &mut answer)?;
    Ok(answer)
}

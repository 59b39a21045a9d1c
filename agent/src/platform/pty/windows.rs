//! A console of Windows with a program on it (ConPTY), and one blocking thread each for its input, its output and its
//! end: the system has no other way of reading a console.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use portable_pty::{CommandBuilder, MasterPty, SlavePty, native_pty_system};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use super::PtySize;
use crate::platform::process::{Environment, Program};

/// The size until a client says another; consoles must have one.
const FIRST_SIZE: portable_pty::PtySize =
    portable_pty::PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
/// The largest number of lines or columns of a console.
const MAX_SIDE: u16 = i16::MAX.cast_unsigned();

/// How much is read from a console at once.
const READ_BYTES: usize = 8 * 1024;
/// Pieces that wait on their way from or to the console's threads; then these wait as well.
const QUEUE: usize = 8;
/// How long the rest of the output of a program that has ended is waited for, after each piece.
const TAIL_TIME: Duration = Duration::from_secs(2);

/// What a person types to say that no more follows: Ctrl-Z and Enter.
const END_OF_INPUT: &[u8] = b"\x1a\r";

/// A console that has no program yet.
pub(crate) struct Pty {
    slave: Box<dyn SlavePty + Send>,
    control: Arc<PtyControl>,
}

impl Pty {
    /// # Errors
    /// Also on a Windows that has no such consoles: before 10 version 1809, and before Server 2019.
    pub(crate) fn open() -> io::Result<Self> {
        // The library panics where the system lacks the functions.
        let opened = catch_unwind(|| native_pty_system().openpty(FIRST_SIZE));
        let pair = opened
            .map_err(|_| {
                io::Error::new(io::ErrorKind::Unsupported, "this Windows is too old for consoles over ssh")
            })?
            .map_err(into_io)?;
        Ok(Self {
            slave: pair.slave,
            control: Arc::new(PtyControl { master: Mutex::new(Some(pair.master)) }),
        })
    }

    /// The name of the terminal, as OpenSSH on Windows gives it: consoles have none.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere terminals have names")]
    pub(crate) fn name(&self) -> io::Result<OsString> {
        Ok("windows-pty".into())
    }

    /// Gives access to the terminal's settings for as long as the program runs.
    pub(crate) fn control(&self) -> Weak<PtyControl> {
        Arc::downgrade(&self.control)
    }

    /// Starts `command` on the console.
    pub(crate) fn spawn(
        self,
        command: Command,
        environment: Environment,
    ) -> io::Result<(Program, RunningPty)> {
        let Self { slave, control } = self;
        let (reader, writer) = {
            let master = control.lock();
            let master = master.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            (master.try_clone_reader().map_err(into_io)?, master.take_writer().map_err(into_io)?)
        };
        let (reader, writer) = (PtyReader::new(reader)?, PtyWriter::new(writer)?);
        let child = slave.spawn_command(builder(&command, environment)).map_err(into_io)?;
        Ok((Program::on_console(child)?, RunningPty { reader, writer, control }))
    }
}

fn builder(command: &Command, environment: Environment) -> CommandBuilder {
    let command = command.as_std();
    let mut builder = CommandBuilder::new(command.get_program());
    builder.args(command.get_args());
    if environment == Environment::Whole {
        builder.env_clear();
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => builder.env(name, value),
            None => builder.env_remove(name),
        }
    }
    if let Some(directory) = command.get_current_dir() {
        builder.cwd(directory);
    }
    builder
}

/// The agent's side of a console with a program on it. Dropping all parts closes the console, and that ends the
/// programs on it.
pub(crate) struct RunningPty {
    pub(crate) reader: PtyReader,
    pub(crate) writer: PtyWriter,
    pub(crate) control: Arc<PtyControl>,
}

/// The console itself.
pub(crate) struct PtyControl {
    /// `None` after it was closed.
    master: Mutex<Option<Box<dyn MasterPty + Send>>>,
}

impl PtyControl {
    pub(crate) fn resize(&self, size: PtySize) -> io::Result<()> {
        let size = portable_pty::PtySize {
            rows: size.rows.clamp(1, MAX_SIDE),
            cols: size.columns.clamp(1, MAX_SIDE),
            pixel_width: size.width_pixels,
            pixel_height: size.height_pixels,
        };
        self.lock().as_ref().map_or(Ok(()), |master| master.resize(size).map_err(into_io))
    }

    /// What a person types to say that no more follows.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "elsewhere it is a setting of the terminal"
    )]
    pub(crate) fn end_of_input(&self, _line_is_open: bool) -> Option<Vec<u8>> {
        Some(END_OF_INPUT.to_vec())
    }

    /// The console draws its whole screen by itself, and knows nothing of a line that somebody else puts there.
    #[expect(clippy::unused_self, reason = "elsewhere it depends")]
    pub(crate) fn is_used_line_by_line(&self) -> bool {
        false
    }

    /// A console has no such modes.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere there are modes")]
    pub(crate) fn apply_modes(&self, _modes: &[(russh::Pty, u32)]) -> io::Result<()> {
        Ok(())
    }

    /// Closes the console: what it still has to show comes out, and the programs on it end.
    fn close(&self) {
        let Some(master) = self.lock().take() else { return };
        // Before Windows 11 24H2 this waits until all output was read.
        if thread::Builder::new().name("console-close".to_owned()).spawn(move || drop(master)).is_err() {
            debug!("no thread to close a console in");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn MasterPty + Send>>> {
        // No code that can panic runs under this lock between changes that belong together.
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PtyControl {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the console shows.
pub(crate) struct PtyReader {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl PtyReader {
    fn new(mut console: Box<dyn Read + Send>) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(QUEUE);
        thread::Builder::new().name("console-output".to_owned()).spawn(move || {
            let mut buffer = [0; READ_BYTES];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                // What nobody wants any more is still read: a console does not close before that.
                let _ = sender.blocking_send(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default()));
            }
        })?;
        Ok(Self { chunks, rest: Bytes::new() })
    }

    /// Reads what the console still shows after its program has ended; 0 when there is no more. Closes the console, as
    /// only then it has an end.
    pub(crate) async fn read_tail(&mut self, control: &PtyControl, buffer: &mut [u8]) -> usize {
        control.close();
        match timeout(TAIL_TIME, self.read(buffer)).await {
            Ok(Ok(count)) => count,
            _ => 0,
        }
    }
}

impl AsyncRead for PtyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            let Some(chunk) = ready!(self.chunks.poll_recv(context)) else { return Poll::Ready(Ok(())) };
            self.rest = chunk;
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// What is typed.
pub(crate) struct PtyWriter(mpsc::Sender<Vec<u8>>);

impl PtyWriter {
    fn new(mut console: Box<dyn Write + Send>) -> io::Result<Self> {
        let (sender, mut typed) = mpsc::channel::<Vec<u8>>(QUEUE);
        thread::Builder::new().name("console-input".to_owned()).spawn(move || {
            while let Some(bytes) = typed.blocking_recv() {
                if console.write_all(&bytes).and_then(|()| console.flush()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Types all of it; not cancel-safe.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes.to_vec()).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The library's errors are texts.
fn into_io(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{error:#}"))
}

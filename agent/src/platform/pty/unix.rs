//! A pseudo-terminal of a Unix system.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use pty_process::{OwnedReadPty, OwnedWritePty, Pts};
use rustix::termios::{SpecialCodeIndex, Winsize};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::process::Command;

use super::PtySize;
use crate::platform::process::{Environment, Program, fork_lock};

mod modes;

/// Programs that edit a line at a prompt, and do nothing else with the screen.
const SHELLS: [&str; 14] = [
    "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "sh", "tcsh", "xonsh", "yash", "zsh",
];

/// A PTY that has no program yet.
pub(crate) struct Pty {
    master: pty_process::Pty,
    pts: Pts,
    control: Arc<PtyControl>,
}

impl Pty {
    pub(crate) fn open() -> io::Result<Self> {
        let (master, pts) = {
            let _guard = fork_lock();
            pty_process::open().map_err(into_io)?
        };
        let control = Arc::new(PtyControl { fd: master.as_fd().try_clone_to_owned()? });
        Ok(Self { master, pts, control })
    }

    /// The name of the terminal as programs on it see it, such as `/dev/pts/3`.
    pub(crate) fn name(&self) -> io::Result<OsString> {
        Ok(OsString::from_vec(rustix::termios::ttyname(&self.pts, Vec::new())?.into_bytes()))
    }

    /// Gives access to the terminal's settings for as long as the program runs.
    pub(crate) fn control(&self) -> Weak<PtyControl> {
        Arc::downgrade(&self.control)
    }

    /// Starts `command` on the terminal, as leader of a session of its own. The command itself knows what its
    /// environment is.
    pub(crate) fn spawn(self, command: Command, _: Environment) -> io::Result<(Program, RunningPty)> {
        let Self { master, pts, control } = self;
        let child = {
            let _guard = fork_lock();
            pty_process::Command::from(command).spawn(pts).map_err(into_io)?
        };
        let (reader, writer) = master.into_split();
        let (reader, writer) = (PtyReader(reader), PtyWriter(writer));
        Ok((Program::new(child), RunningPty { reader, writer, control }))
    }
}

/// The agent's side of a terminal with a program on it. Dropping all parts hangs the terminal up.
pub(crate) struct RunningPty {
    pub(crate) reader: PtyReader,
    pub(crate) writer: PtyWriter,
    pub(crate) control: Arc<PtyControl>,
}

/// What the program writes. The error that a terminal without programs gives is its end of file.
pub(crate) struct PtyReader(OwnedReadPty);

impl PtyReader {
    /// Reads what the terminal still holds after its program has ended; 0 when it holds nothing or nobody is left.
    ///
    /// The kernel moves output from a program to us in the background; a non-blocking read waits for that work, which
    /// a readiness notification does not. So "nothing" here is really nothing.
    #[expect(clippy::unused_async, reason = "a console of Windows is waited for")]
    pub(crate) async fn read_tail(&mut self, control: &PtyControl, buffer: &mut [u8]) -> usize {
        loop {
            match rustix::io::read(&control.fd, &mut *buffer) {
                Ok(count) => return count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }
}

impl AsyncRead for PtyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

/// What is typed.
pub(crate) struct PtyWriter(OwnedWritePty);

impl PtyWriter {
    /// Types all of it; not cancel-safe.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

/// The settings of a terminal.
pub(crate) struct PtyControl {
    fd: OwnedFd,
}

impl PtyControl {
    pub(crate) fn resize(&self, size: PtySize) -> io::Result<()> {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: size.width_pixels,
            ws_ypixel: size.height_pixels,
        };
        Ok(rustix::termios::tcsetwinsize(&self.fd, size)?)
    }

    /// What a person types to say that no more follows, in the middle of a line or at its beginning; `None` when the
    /// program on this terminal has switched it off.
    pub(crate) fn end_of_input(&self, line_is_open: bool) -> Option<Vec<u8>> {
        let code = rustix::termios::tcgetattr(&self.fd).ok()?.special_codes[SpecialCodeIndex::VEOF];
        // In the middle of a line the first one only hands over the line.
        (code != 0).then(|| vec![code; if line_is_open { 2 } else { 1 }])
    }

    /// Whether the program in the foreground writes lines, or is a shell at its prompt, as opposed to one that has the
    /// whole screen for itself. In doubt it has.
    pub(crate) fn is_used_line_by_line(&self) -> bool {
        let Ok(settings) = rustix::termios::tcgetattr(&self.fd) else { return false };
        if settings.local_modes.contains(rustix::termios::LocalModes::ICANON) {
            return true;
        }
        // A shell edits its command line itself.
        let Ok(group) = rustix::termios::tcgetpgrp(&self.fd) else { return false };
        let name = std::fs::read_to_string(format!("/proc/{}/comm", group.as_raw_nonzero()));
        name.is_ok_and(|name| SHELLS.contains(&name.trim_end()))
    }

    pub(crate) fn apply_modes(&self, modes: &[(russh::Pty, u32)]) -> io::Result<()> {
        let mut settings = rustix::termios::tcgetattr(&self.fd)?;
        modes::apply(&mut settings, modes);
        Ok(rustix::termios::tcsetattr(&self.fd, rustix::termios::OptionalActions::Now, &settings)?)
    }
}

fn into_io(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        error => io::Error::other(error),
    }
}

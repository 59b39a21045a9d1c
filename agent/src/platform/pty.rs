//! A pseudo-terminal (PTY) and a program on it.
//!
//! One file for Unix systems now; a Windows console would be a second one behind the same interface.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pty_process::{OwnedReadPty, OwnedWritePty, Pts};
use rustix::termios::{SpecialCodeIndex, Winsize};
use tokio::process::{Child, Command};

pub(crate) mod modes;

/// Serialises making file descriptors that are not yet close-on-exec with starting children.
///
/// The PTY library opens the terminal's control side and marks it close-on-exec in two steps. A child started in
/// between by another thread would inherit it, and the terminal could never hang up again.
static FORK: Mutex<()> = Mutex::new(());

/// Keeps other threads from opening a PTY while a child is started; see [`FORK`]'s comment.
pub(crate) fn fork_lock() -> MutexGuard<'static, ()> {
    // The guarded value is `()`: a panic of another holder leaves nothing half done.
    FORK.lock().unwrap_or_else(PoisonError::into_inner)
}

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

    /// Starts `command` on the terminal, as leader of a session of its own.
    pub(crate) fn spawn(self, command: Command) -> io::Result<(Child, RunningPty)> {
        let Self { master, pts, control } = self;
        let child = {
            let _guard = fork_lock();
            pty_process::Command::from(command).spawn(pts).map_err(into_io)?
        };
        let (reader, writer) = master.into_split();
        Ok((child, RunningPty { reader, writer, control }))
    }
}

/// The agent's side of a terminal with a program on it. Dropping all parts hangs the terminal up.
pub(crate) struct RunningPty {
    pub(crate) reader: OwnedReadPty,
    pub(crate) writer: OwnedWritePty,
    pub(crate) control: Arc<PtyControl>,
}

/// The settings of a terminal.
pub(crate) struct PtyControl {
    fd: OwnedFd,
}

impl PtyControl {
    pub(crate) fn resize(&self, size: PtySize) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(&self.fd, size.0)?)
    }

    /// The character that means end of file to a program on this terminal; `None` when it is switched off.
    pub(crate) fn end_of_file_character(&self) -> Option<u8> {
        let code = rustix::termios::tcgetattr(&self.fd).ok()?.special_codes[SpecialCodeIndex::VEOF];
        (code != 0).then_some(code)
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

    /// Reads what the terminal holds right now, without waiting; 0 when it holds nothing or nobody is left.
    ///
    /// The kernel moves output from a program to us in the background; a non-blocking read waits for that work, which
    /// a readiness notification does not. So "nothing" here is really nothing.
    pub(crate) fn read_available(&self, buffer: &mut [u8]) -> usize {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(count) => return count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    pub(crate) fn apply_modes(&self, modes: &[(russh::Pty, u32)]) -> io::Result<()> {
        let mut settings = rustix::termios::tcgetattr(&self.fd)?;
        modes::apply(&mut settings, modes);
        Ok(rustix::termios::tcsetattr(&self.fd, rustix::termios::OptionalActions::Now, &settings)?)
    }
}

/// The size of a terminal, in characters and in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PtySize(Winsize);

impl PtySize {
    /// Values above 65535 are taken for 65535: the system has no larger ones.
    pub(crate) fn new(columns: u32, rows: u32, width_pixels: u32, height_pixels: u32) -> Self {
        let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        Self(Winsize {
            ws_row: clamp(rows),
            ws_col: clamp(columns),
            ws_xpixel: clamp(width_pixels),
            ws_ypixel: clamp(height_pixels),
        })
    }
}

fn into_io(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        error => io::Error::other(error),
    }
}

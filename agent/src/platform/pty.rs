//! A terminal and a program on it: a pseudo-terminal (PTY), or a console of Windows.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Pty, PtyControl, PtyReader, PtyWriter, RunningPty};
#[cfg(windows)]
pub(crate) use windows::{Pty, PtyControl, PtyReader, PtyWriter, RunningPty};

/// The size of a terminal, in characters and in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PtySize {
    columns: u16,
    rows: u16,
    width_pixels: u16,
    height_pixels: u16,
}

impl PtySize {
    /// Values above 65535 are taken for 65535: the system has no larger ones.
    pub(crate) fn new(columns: u32, rows: u32, width_pixels: u32, height_pixels: u32) -> Self {
        let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        Self {
            columns: clamp(columns),
            rows: clamp(rows),
            width_pixels: clamp(width_pixels),
            height_pixels: clamp(height_pixels),
        }
    }
}

//! Files and directories that are for their owner alone.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{append_to_log, create_private, link_program, private_temporary, write_private};
#[cfg(windows)]
pub(crate) use windows::{append_to_log, create_private, link_program, private_temporary, write_private};

//! Which shells there are, and how a shell is told what to run.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    DEFAULT_PATH, FOR_COMMANDS, FOR_PEOPLE, executable, hook, is_variable, on_pipes, on_terminal, own,
};
#[cfg(windows)]
pub(crate) use windows::{
    DEFAULT_PATH, FOR_COMMANDS, FOR_PEOPLE, PROGRAM_EXTENSIONS, executable, hook, is_variable, on_pipes,
    on_terminal, own,
};

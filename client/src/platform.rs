//! What differs between operating systems: one interface, and a file per system behind it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    CACHE, CONFIGURATION, HOME, code_of, input, output, private_directory, quit_signal, quoted,
    run_in_foreground, stop_signal,
};
#[cfg(windows)]
pub(crate) use windows::{
    CACHE, CONFIGURATION, HOME, code_of, input, output, private_directory, quit_signal, quoted,
    run_in_foreground, stop_signal,
};

use std::path::PathBuf;

/// Where files of one kind are: below a directory that a variable names, else below the user's home.
pub(crate) struct Base {
    /// The variable.
    pub(crate) variable: &'static str,
    /// In the user's home.
    pub(crate) below_home: &'static str,
}

impl Base {
    /// The directory; `None` when there is no home either. Relative paths count as not there.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let absolute =
            |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute(self.variable).or_else(|| absolute(HOME).map(|home| home.join(self.below_home)))
    }
}

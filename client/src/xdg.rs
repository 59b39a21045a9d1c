//! Where the user's files are, as the XDG base directory specification has it.

use std::path::PathBuf;

/// The directory that `variable` names, else the one `below_home`; `None` when there is no home either. Relative paths
/// count as not there.
pub(crate) fn base_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

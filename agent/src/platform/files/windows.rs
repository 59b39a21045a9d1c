//! Owners are told apart by the access lists that files inherit from their directories: those in a user's profile are
//! for the user, for administrators and for the system.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempDir;

/// Makes a directory, and those above it, unless it is there. Who may enter is inherited.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// Makes a directory of a new name in `place`.
pub(crate) fn private_temporary(prefix: &str, place: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(place)
}

/// Makes a file, which must not be there.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(contents)
}

/// Opens a log to write behind what is in it.
pub(crate) async fn append_to_log(path: &Path) -> io::Result<tokio::fs::File> {
    tokio::fs::OpenOptions::new().append(true).create(true).open(path).await
}

/// Makes a program available under another name in `directory`, by a script: links need a privilege here, and a copy
/// that runs cannot be removed. `word` is the program's first argument then.
pub(crate) fn link_program(
    program: &Path,
    directory: &Path,
    name: &str,
    word: Option<&str>,
) -> io::Result<()> {
    let program = program.display().to_string().replace('%', "%%");
    let word = word.map(|word| format!(" {word}")).unwrap_or_default();
    std::fs::write(directory.join(format!("{name}.cmd")), format!("@\"{program}\"{word} %*\r\n"))
}

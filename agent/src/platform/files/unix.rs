//! Owners are told apart by the modes of files.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use tempfile::TempDir;

/// Makes a directory, and those above it, unless it is there.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory of a new name in `place`.
pub(crate) fn private_temporary(prefix: &str, place: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(place)
}

/// Makes a file, which must not be there.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(contents)
}

/// Opens a log to write behind what is in it. A new one can be read by its owner only: it says who was here.
pub(crate) async fn append_to_log(path: &Path) -> io::Result<tokio::fs::File> {
    // A pipe without a reader is an error instead of a wait without end; one that is full is an error as well.
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = tokio::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(without_waiting);
    options.open(path).await
}

/// Makes a program available under another name in `directory`. From its name it knows the word that elsewhere is its
/// first argument.
pub(crate) fn link_program(program: &Path, directory: &Path, name: &str, _: Option<&str>) -> io::Result<()> {
    let link = directory.join(name);
    // A leftover may lead elsewhere.
    if let Err(error) = std::fs::remove_file(&link)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    std::os::unix::fs::symlink(program, link)
}

//! Files with secrets in them, and files that others write.

use crate::IdentityError;
use std::{fs, io, path::Path};

/// Larger files are refused: no chain, list of authorities or key comes near it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

pub(crate) fn read_limited(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { file: file.into(), source };
    let mut contents = Vec::new();
    // Measured while it is read: it may grow meanwhile, or be no file at all.
    let mut open = io::Read::take(fs::File::open(file).map_err(failed)?, MAX_FILE_BYTES + 1);
    io::Read::read_to_end(&mut open, &mut contents).map_err(failed)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("the file is too large")));
    }
    Ok(contents)
}

/// Makes a directory that only its owner may look into; one that is there stays as it is.
///
/// # Errors
/// [`IdentityError::Write`].
pub fn create_private_directory(directory: &Path) -> Result<(), IdentityError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|source| IdentityError::Write { file: directory.into(), source })
}

/// Writes beside the file and renames, so that no reader sees half of it. The file is readable by its owner only.
///
/// # Errors
/// [`IdentityError::Write`].
pub fn write_private(file: &Path, contents: &[u8]) -> Result<(), IdentityError> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut open = options.open(&beside)?;
        io::Write::write_all(&mut open, contents)?;
        open.sync_all()?;
        fs::rename(&beside, file)
    };
    write().map_err(|source| IdentityError::Write { file: file.into(), source })
}

//! SHA-256 of files, and `SHA256SUMS` as `sha256sum` writes it.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// A longer list is refused.
const MAX_BYTES: u64 = 64 * 1024;
const READ_BYTES: usize = 128 * 1024;

/// What a directory says of its files.
#[derive(Debug, Default)]
pub(super) struct Checksums(BTreeMap<String, String>);

impl Checksums {
    pub(super) const FILE: &str = "SHA256SUMS";

    /// The list of a directory; without one there are no checksums.
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        let mut text = String::new();
        match File::open(directory.join(Self::FILE)) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("{} is longer than {MAX_BYTES} bytes", Self::FILE)));
        }
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        // The second space is a star for a file that was read as binary, which is the same here.
        let entry = |(sum, name): (&str, &str)| {
            (name.trim_start_matches([' ', '*']).to_owned(), sum.to_ascii_lowercase())
        };
        Ok(Self(lines.map(entry).collect()))
    }

    pub(super) fn of(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// In lower-case hexadecimal.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(HEXLOWER.encode(&hash.finalize())),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! Files to copy, and whether they arrived whole.

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::Path,
};

const BLOCK_BYTES: usize = 1024 * 1024;

/// Writes `bytes` bytes that no compression helps with.
///
/// # Errors
/// When the file cannot be written.
pub fn write_random(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::with_capacity(BLOCK_BYTES, file);
    let mut random = SmallRng::seed_from_u64(bytes);
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        random.fill(&mut block[..]);
        let len = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        file.write_all(&block[..len])?;
        left -= len as u64;
    }
    file.flush()?;
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut digest, mut block) = (Sha256::new(), vec![0; BLOCK_BYTES]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(HEXLOWER.encode(&digest.finalize())),
            len => digest.update(&block[..len]),
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Makes a directory with what copies get wrong: an empty file, an odd size, depth, a name with a space and a quote.
///
/// # Errors
/// When it cannot be written.
pub fn write_tree(root: &Path) -> Result<()> {
    let deep = root.join("deep").join("er");
    fs::create_dir_all(&deep)?;
    fs::create_dir(root.join("nothing"))?;
    fs::write(root.join("empty"), "")?;
    fs::write(root.join("it's a \"name\""), "named\n")?;
    write_random(&root.join("odd"), 1_000_003)?;
    for number in 0..20 {
        fs::write(deep.join(format!("file {number}")), number.to_string())?;
    }
    Ok(())
}

/// The SHA-256 over all paths and contents below a directory, in hexadecimal.
///
/// # Errors
/// When something cannot be read.
pub fn sha256_of_tree(root: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.sort();
        for path in paths {
            let kind = if path.is_dir() { "directory".to_owned() } else { sha256(&path)? };
            digest.update(path.strip_prefix(root)?.as_os_str().as_encoded_bytes());
            digest.update(format!("\0{kind}\0"));
            if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(HEXLOWER.encode(&digest.finalize()))
}

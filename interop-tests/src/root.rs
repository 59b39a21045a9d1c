//! A root directory with nothing in it but what a test puts there, and programs that know no other.

use crate::{process::run, programs};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Such a directory. Networks are those of the machine.
#[derive(Debug)]
pub struct Root {
    directory: TempDir,
}

impl Root {
    /// Nothing at all: no program, no library, no device, no `/proc`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn empty() -> Result<Self> {
        Ok(Self { directory: tempfile::Builder::new().prefix("converge-root-").tempdir()? })
    }

    /// With these programs of the machine in `/bin`, the libraries that they need, and `/home` and `/tmp`. An entry
    /// `sh=dash` has another name inside.
    ///
    /// # Errors
    /// When one is not installed.
    pub fn with(programs: &[&str]) -> Result<Self> {
        let root = Self::empty()?;
        for directory in ["bin", "home", "tmp"] {
            fs::create_dir(root.path().join(directory))?;
        }
        for program in programs {
            let (inside, outside) = program.split_once('=').unwrap_or((program, program));
            root.add(&programs::installed(outside)?, &format!("bin/{inside}"))?;
        }
        Ok(root)
    }

    /// Where it is, from outside.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Copies a program into it, at this path, and the libraries that it needs.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn add(&self, program: &Path, inside: &str) -> Result<()> {
        fs::copy(program, self.path().join(inside)).with_context(|| format!("{}", program.display()))?;
        self.add_libraries_of(program)
    }

    /// Copies the libraries that a program needs, the loader among them; none for a static one.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn add_libraries_of(&self, program: &Path) -> Result<()> {
        let listed = run(Command::new(programs::installed("ldd")?).arg(program), b"")?;
        // NAME => PATH (0x…), or for the loader PATH (0x…).
        for library in listed.text().split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = self.path().join(library.trim_start_matches('/'));
            if let (Some(directory), false) = (inside.parent(), inside.exists()) {
                fs::create_dir_all(directory)?;
                fs::copy(library, &inside).with_context(|| library.to_owned())?;
            }
        }
        Ok(())
    }

    /// Writes a file into it, and makes the directories that it needs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, inside: &str, contents: &str) -> Result<()> {
        let path = self.path().join(inside);
        path.parent().map(fs::create_dir_all).transpose()?;
        Ok(fs::write(path, contents)?)
    }

    /// A program in it, with an environment of its own.
    ///
    /// # Errors
    /// When there is no `chroot`.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(programs::installed("chroot")?);
        command.arg(self.path()).arg(program).env_clear().env("PATH", "/bin").env("HOME", "/home");
        Ok(command)
    }

    /// Every file in it, with its mode and size.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn files(&self) -> Result<BTreeMap<PathBuf, (u32, u64)>> {
        let mut found = BTreeMap::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let (path, metadata) =
                    (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::metadata));
                let (Ok(path), Ok(Ok(metadata))) = (path, metadata) else { continue };
                if metadata.is_dir() {
                    directories.push(path.clone());
                }
                let inside = path.strip_prefix(self.path()).unwrap_or(&path).to_owned();
                found.insert(inside, (metadata.permissions().mode() & 0o7777, metadata.len()));
            }
        }
        Ok(found)
    }
}

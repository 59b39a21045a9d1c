//! The agent directory: the only place the agent writes to.

use crate::{
    life::hold,
    platform::{
        files::{create_private, link_program, private_temporary, write_private},
        machine::own_program,
    },
};
use converge_proto::HostKey;
use ssh_key::{
    LineEnding, PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tracing::warn;

/// Where CI runners want temporary files, in the order in which they are asked; else the system's place.
const RUNNER_TEMP_VARIABLES: [&str; 2] = ["RUNNER_TEMP", "AGENT_TEMPDIRECTORY"];

/// The directory with the host key, locked for this process.
#[derive(Debug)]
pub struct AgentDir {
    path: PathBuf,
    /// Held so that no second agent uses the directory.
    _lock: File,
    /// The directory was made for this run and goes with it.
    temporary: Option<TempDir>,
}

impl AgentDir {
    const HOST_KEY_FILE: &str = "host_key";
    const LOCK_FILE: &str = "lock";
    /// Whoever makes it keeps the agent when the last user leaves.
    pub const HOLD_FILE: &str = ".hold";
    const TOOLS_DIRECTORY: &str = "bin";
    /// Names, and the word that each stands for.
    const TOOLS: [(&str, Option<&str>); 2] =
        [("converge-agent", None), (crate::command_line::RERUN, Some(crate::command_line::RERUN))];
    /// Larger key files are refused; an Ed25519 one has about 400 bytes.
    const MAX_HOST_KEY_BYTES: u64 = 64 * 1024;

    /// Uses `path`, which is made when it is missing and kept at the end; or, without one, a new directory in the
    /// runner's temporary folder, which is removed at the end.
    ///
    /// # Errors
    /// [`AgentDirError`] when the directory cannot be made, is in use, or cannot be locked.
    pub fn open(path: Option<&Path>) -> Result<Self, AgentDirError> {
        let (path, temporary) = if let Some(path) = path {
            let absolute = create_private(path).and_then(|()| std::path::absolute(path));
            (absolute.map_err(|source| AgentDirError::Create { path: path.into(), source })?, None)
        } else {
            let temporary = temporary()?;
            (temporary.path().to_owned(), Some(temporary))
        };
        let lock_file = path.join(Self::LOCK_FILE);
        let lock =
            File::create(&lock_file).map_err(|source| AgentDirError::Create { path: lock_file, source })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock, temporary }),
            Err(TryLockError::WouldBlock) => Err(AgentDirError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(AgentDirError::Create { path, source }),
        }
    }

    /// Whether the directory was made for this run and goes with it.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Where the agent's own programs are for sessions.
    pub fn tools(&self) -> PathBuf {
        self.path.join(Self::TOOLS_DIRECTORY)
    }

    /// Puts links to this program there, under all names it has in a session. Where nobody knows its file, sessions are
    /// without.
    ///
    /// # Errors
    /// [`AgentDirError`] when they cannot be made.
    pub fn link_tools(&self) -> Result<(), AgentDirError> {
        let tools = self.tools();
        let link = || {
            create_private(&tools)?;
            let Some(program) = own_program() else {
                warn!(
                    "this machine does not say where the agent's program is: sessions are without its commands"
                );
                return Ok(());
            };
            for (name, word) in Self::TOOLS {
                link_program(&program, &tools, name, word)?;
            }
            Ok(())
        };
        link().map_err(|source| AgentDirError::Create { path: tools.clone(), source })
    }

    /// Makes the hold file, so that the agent stays when the last user leaves.
    ///
    /// # Errors
    /// [`AgentDirError`] when it cannot be made.
    pub fn hold(&self) -> Result<(), AgentDirError> {
        let path = self.path.join(Self::HOLD_FILE);
        hold::touch(&path, None).map_err(|source| AgentDirError::Create { path, source })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host key in the directory, made from `seed` (32 random bytes) when there is none yet.
    ///
    /// # Errors
    /// [`AgentDirError`] when the file cannot be read or written, or is not an unencrypted Ed25519 key.
    pub fn host_key(&self, seed: [u8; 32]) -> Result<PrivateKey, AgentDirError> {
        let path = self.path.join(Self::HOST_KEY_FILE);
        let read_error = |detail: String| AgentDirError::HostKey { path: path.clone(), detail };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > Self::MAX_HOST_KEY_BYTES => {
                return Err(read_error("the file is too large".to_owned()));
            }
            Ok(_) => {
                let text = fs::read_to_string(&path).map_err(|error| read_error(error.to_string()))?;
                let key = PrivateKey::from_openssh(&text).map_err(|error| read_error(error.to_string()))?;
                if key.is_encrypted() {
                    return Err(read_error("it is encrypted".to_owned()));
                }
                HostKey::new(key.public_key()).map_err(|error| read_error(error.to_string()))?;
                return Ok(key);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(read_error(error.to_string())),
        }
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, "converge-agent").map_err(|error| read_error(error.to_string()))?;
        let text = key.to_openssh(LineEnding::LF).map_err(|error| read_error(error.to_string()))?;
        write_private(&path, text.as_bytes()).map_err(|source| AgentDirError::Create { path, source })?;
        Ok(key)
    }
}

fn temporary() -> Result<TempDir, AgentDirError> {
    let runners = RUNNER_TEMP_VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from);
    let place = runners.into_iter().find(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
    private_temporary("converge-agent-", &place)
        .map_err(|source| AgentDirError::Create { path: place, source })
}

/// Why there is no agent directory.
#[derive(Debug, thiserror::Error)]
pub enum AgentDirError {
    /// It, or something in it, cannot be made.
    #[error("cannot use {}: {source}; see --dir", path.display())]
    Create {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent runs in it.
    #[error("another agent is using {}; give each its own --dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The host key in it cannot be used.
    #[error("cannot use the host key {}: {detail}; remove the file to have a new one made", path.display())]
    HostKey {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_directory_keeps_its_host_key() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("agent");
        let first = AgentDir::open(Some(&path)).unwrap().host_key([1; 32]).unwrap();
        let second = AgentDir::open(Some(&path)).unwrap().host_key([2; 32]).unwrap();
        assert_eq!(first.public_key(), second.public_key());
    }

    #[cfg(unix)]
    #[test]
    fn own_directory_is_private_and_goes_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let directory = AgentDir::open(None).unwrap();
        let path = directory.path().to_owned();
        directory.host_key([1; 32]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join("host_key")).unwrap().permissions().mode() & 0o777, 0o600);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn second_agent_in_the_same_directory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let _first = AgentDir::open(Some(place.path())).unwrap();
        assert!(matches!(AgentDir::open(Some(place.path())), Err(AgentDirError::InUse { .. })));
    }

    #[test]
    fn damaged_host_key_is_named_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("host_key");
        fs::write(&file, "garbage").unwrap();
        let error = AgentDir::open(Some(place.path())).unwrap().host_key([1; 32]).unwrap_err().to_string();
        assert!(error.contains("host_key"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"garbage");
    }
}

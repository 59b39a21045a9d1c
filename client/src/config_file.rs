//! The user's configuration file: `converge/config.toml` in `$XDG_CONFIG_HOME`, else in `~/.config`; on Windows in
//! `%APPDATA%`.

use crate::{error::ClientError, platform};
use converge_proto::RelayUrl;
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the file may say. Unknown keys are errors, so that a typing error does not pass for a default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// The relay to use when neither the address nor the command line names one.
    pub relay: Option<RelayUrl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    relay: Option<String>,
}

impl ConfigFile {
    /// Larger files are refused unread.
    const MAX_BYTES: u64 = 64 * 1024;

    /// Reads the user's file; a missing one says nothing.
    ///
    /// # Errors
    /// [`ClientError::Usage`] names the file and what is wrong in it.
    pub fn load() -> Result<Self, ClientError> {
        match path() {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::Usage(format!("cannot use {}: {why}", path.display()));
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(metadata) if metadata.len() > Self::MAX_BYTES => {
                return Err(wrong("it is too large".to_owned()));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let raw: Raw =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().replace('\n', " ")))?;
        let relay = raw.relay.map(|url| url.parse::<RelayUrl>()).transpose();
        Ok(Self { relay: relay.map_err(|error| wrong(format!("relay: {error}")))? })
    }
}

fn path() -> Option<PathBuf> {
    let base = platform::CONFIGURATION.directory()?;
    Some(base.join("converge").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &str) -> Result<ConfigFile, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, contents).unwrap();
        ConfigFile::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::read(&directory.path().join("none")).unwrap(), ConfigFile::default());
    }

    #[test]
    fn relay_is_read() {
        let relay = read("relay = 'https://relay:4433'").unwrap().relay.unwrap();
        assert_eq!(relay.to_string(), "https://relay:4433");
    }

    #[test]
    fn unknown_keys_and_wrong_urls_are_named() {
        let error = read("realy = 'x'").unwrap_err();
        assert!(error.contains("realy") && error.contains("config.toml"), "{error}");
        let error = read("relay = 'relay.example'").unwrap_err();
        assert!(error.contains("https://"), "{error}");
        assert!(read("relay = ").is_err());
    }
}

//! The user's configuration file: `converge/config.toml` in `$XDG_CONFIG_HOME`, else in `~/.config`; on Windows in
//! `%APPDATA%`.

use crate::{error::ClientError, platform, token};
use converge_proto::{
    RelayUrl, RelayUrls,
    rendezvous::{Token, token::InvalidToken},
};
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the file may say. Unknown keys are errors, so that a typing error does not pass for a default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// The relay to use when neither the address nor the command line names one, or several of which any will do.
    pub relays: Option<RelayUrls>,
    /// What they are shown, and no others.
    pub token: Option<Token>,
    /// A file with it.
    pub token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    relay: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
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
        let relays = raw.relay.map(|urls| urls.parse::<RelayUrls>()).transpose();
        let relays = relays.map_err(|error| wrong(format!("relay: {error}")))?;
        let token = raw.token.map(|token| token.parse()).transpose();
        let token = token.map_err(|error: InvalidToken| wrong(format!("token: {error}")))?;
        if relays.is_none() && (token.is_some() || raw.token_file.is_some()) {
            return Err(wrong("it has a token and does not say for which relay".to_owned()));
        }
        Ok(Self { relays, token, token_file: raw.token_file })
    }

    /// The token, when these are relays that it is for: an address that names another one must not get it.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when its file cannot be read.
    pub fn token_for(&self, relays: &RelayUrls) -> Result<Option<Token>, ClientError> {
        let is_own = |relay: &RelayUrl| self.relays.as_ref().is_some_and(|own| own.find(relay).is_some());
        if !relays.iter().all(is_own) {
            return Ok(None);
        }
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => token::read(file).map(Some),
            (None, None) => Ok(None),
        }
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
        let relay = read("relay = 'https://relay:4433'").unwrap().relays.unwrap();
        assert_eq!(relay.to_string(), "https://relay:4433");
        let relays = read("relay = 'https://a, https://b'").unwrap().relays.unwrap();
        assert_eq!(relays.to_string(), "https://a,https://b");
        let error = read("relay = 'https://a,b'").unwrap_err();
        assert!(error.contains("relay: URL 2 of 2: "), "{error}");
    }

    #[test]
    fn token_is_for_its_own_relay_only() {
        let file = read("relay = 'https://relay:4433'\ntoken = 'abc'").unwrap();
        let token = |relay: &str| file.token_for(&relay.parse().unwrap()).unwrap().is_some();
        assert!(token("https://relay:4433") && token("wss://relay:4433") && token("quic://relay:4433"));
        for other in ["https://relay", "https://other:4433", "ws://relay:4433", "https://relay:4433/base"] {
            assert!(!token(other), "{other}");
        }
        let file = read("relay = 'https://a,https://b'\ntoken = 'abc'").unwrap();
        let token = |relays: &str| file.token_for(&relays.parse().unwrap()).unwrap().is_some();
        assert!(token("https://a") && token("wss://b") && token("https://b,https://a"));
        assert!(!token("https://a,https://c") && !token("https://c"), "not all are its own");
        assert!(read("token = 'abc'").unwrap_err().contains("for which relay"));
        let error = read("relay = 'https://relay'\ntoken = 'hunter 2'").unwrap_err();
        assert!(error.contains("token: ") && !error.contains("hunter"), "{error}");
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

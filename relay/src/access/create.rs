//! `converge-relay token create`: a new token, and what the relay keeps of it.

use super::{
    IdPattern, Scope,
    tokens::{Secret, TokenHash},
};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What the operator calls it.
    pub name: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// How long it is good; for ever without it.
    pub expires: Option<Duration>,
    /// The IDs that it is for.
    pub ids: Option<IdPattern>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It would be good for longer than calendars go.
    #[error("--expires is too long; without it the token does not expire")]
    Expires,
    /// The name would break the file, or the line of a log.
    #[error("--name has 1 to 100 characters, and no control characters")]
    Name,
    /// The file cannot be read.
    #[error("cannot read {path}: {detail}; see --tokens-file")]
    Read {
        /// Which.
        path: String,
        /// Why.
        detail: String,
    },
    /// There is one of this name.
    #[error("{path} has a token {name:?} already; choose another --name, or take the old one out")]
    Exists {
        /// Which file.
        path: String,
        /// Which name.
        name: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; see --tokens-file")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl NewToken {
    /// Makes a token from random bytes. Returns it, to be shown once, and the entry to be kept.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn make(
        &self,
        random: [u8; Secret::ENTROPY_BYTES],
        now: SystemTime,
    ) -> Result<(String, String), CreateError> {
        let fits = (1..=100).contains(&self.name.chars().count()) && !self.name.contains(char::is_control);
        if !fits {
            return Err(CreateError::Name);
        }
        // Years with more than four digits are no RFC 3339.
        let latest = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 8000);
        let expires = self.expires.map(|time| {
            now.checked_add(time).filter(|expires| *expires < latest).ok_or(CreateError::Expires)
        });
        let expires = expires.transpose()?;
        let secret = Secret::generate(random);
        let entry = self.entry(&secret.hash(), expires);
        Ok((secret.into_text(), entry))
    }

    fn entry(&self, hash: &TokenHash, expires: Option<SystemTime>) -> String {
        // As JSON has them, strings are strings of TOML too.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let scopes: Vec<_> = self.scopes.iter().map(|scope| quoted(scope.name())).collect();
        let mut entry = format!(
            "[[tokens]]\nname = {}\nsha256 = \"{hash}\"\nscopes = [{}]\n",
            quoted(&self.name),
            scopes.join(", ")
        );
        if let Some(ids) = &self.ids {
            entry += &format!("id-pattern = {}\n", quoted(&ids.to_string()));
        }
        if let Some(expires) = expires {
            entry += &format!("expires = \"{}\"\n", humantime::format_rfc3339_seconds(expires));
        }
        entry
    }

    /// Adds an entry to a file of tokens, which is made for its owner alone when it is not there.
    ///
    /// # Errors
    /// [`CreateError`]; the file is then what it was.
    pub fn append(&self, path: &Path, entry: &str) -> Result<(), CreateError> {
        let shown = || path.display().to_string();
        let failed = |source| CreateError::Write { path: shown(), source };
        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let unreadable = |detail: String| CreateError::Read { path: shown(), detail };
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
        let tokens = super::tokens::parse(&text).map_err(unreadable)?;
        if tokens.iter().any(|token| token.name == self.name) {
            return Err(CreateError::Exists { path: shown(), name: self.name.clone() });
        }
        let gap = match text.as_str() {
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        // In one write, so that a relay that reads meanwhile does not see half of it.
        file.write_all(format!("{gap}{entry}").as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn new_token(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            scopes: vec![Scope::Agent, Scope::ApiRead],
            expires: Some(Duration::from_hours(24)),
            ids: Some("team-*".parse().unwrap()),
        }
    }

    #[test]
    fn what_is_kept_can_be_read_back_and_has_no_token_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        for (byte, name) in [(1, "one"), (2, "with \"quotes\"")] {
            let token = new_token(name);
            let (secret, entry) = token.make([byte; 32], SystemTime::now()).unwrap();
            token.append(&path, &entry).unwrap();
            assert!(!fs::read_to_string(&path).unwrap().contains(&secret));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let tokens = crate::access::tokens::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens[1].name, "with \"quotes\"");
        assert_eq!(tokens[0].hash, Secret::generate([1; 32]).hash());
        assert!(tokens[0].expires.is_some() && tokens[0].scopes.include(Scope::ApiRead));
        let again = new_token("one");
        let (_, entry) = again.make([3; 32], SystemTime::now()).unwrap();
        assert!(matches!(again.append(&path, &entry), Err(CreateError::Exists { .. })));
    }

    #[test]
    fn impossible_tokens_are_refused() {
        let now = SystemTime::now();
        assert!(matches!(new_token("").make([0; 32], now), Err(CreateError::Name)));
        assert!(matches!(new_token("a\nb").make([0; 32], now), Err(CreateError::Name)));
        let long = NewToken { expires: Some(Duration::MAX), ..new_token("x") };
        assert!(matches!(long.make([0; 32], now), Err(CreateError::Expires)));
    }
}

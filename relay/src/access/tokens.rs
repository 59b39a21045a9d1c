//! The relay's own tokens: made once, kept as hashes.
//!
//! A token is 256 random bits, so a plain SHA-256 of it gives nothing away and needs no salt: there is nothing to guess.
//! Every token is compared with every entry, each time, so that the time tells nothing about which it was near to.

mod file;

pub(super) use file::parse;
pub use file::{TokensFile, TokensFileError};

use super::{Grant, IdPattern, Refusal, Scope, Scopes};
use converge_proto::rendezvous::Token;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What every token of a relay begins with, so that people and scanners for lost secrets know it.
pub const PREFIX: &str = "cvg_";

/// A new token, before it is given away. Never printed by accident.
pub struct Secret(String);

impl Secret {
    /// Random bytes in a token.
    pub const ENTROPY_BYTES: usize = 32;

    /// `cvg_` and 43 characters.
    pub fn generate(random: [u8; Self::ENTROPY_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&random)))
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    /// The token, to be shown once.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The SHA-256 of a token; 64 hexadecimal digits in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            // A token that was put here by mistake must not get into a log.
            serde::de::Error::custom(
                "sha256 has 64 hexadecimal digits, as `converge-relay token create` prints them; the token itself does \
                 not belong into the file",
            )
        })
    }
}

/// An entry of a file: everything about a token but the token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StaticToken {
    /// What the operator calls it. Shown to its bearer and in logs.
    pub name: String,
    /// Its hash.
    #[serde(rename = "sha256")]
    pub hash: TokenHash,
    /// What it is for.
    pub scopes: Scopes,
    /// The IDs that it is for; any without it.
    #[serde(rename = "id-pattern", default)]
    pub ids: Option<IdPattern>,
    /// When it ends, as RFC 3339 has it (`2027-02-19T14:00:00Z`); never without it.
    #[serde(default, deserialize_with = "rfc_3339")]
    pub expires: Option<SystemTime>,
}

fn rfc_3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_rfc3339_weak(&text);
    time.map(Some)
        .map_err(|error| serde::de::Error::custom(format!("{error}; such as \"2027-02-19T14:00:00Z\"")))
}

/// Looks a token up.
///
/// # Errors
/// [`Refusal`]: unknown, expired or for something else.
pub(super) fn find<'a>(
    token: &Token,
    all: impl Iterator<Item = &'a StaticToken>,
    wanted: Scope,
    now: SystemTime,
) -> Result<Grant, Refusal> {
    let hash = TokenHash::of(token.secret());
    let mut found = 0_u64;
    let all: Vec<_> = all.collect();
    for (number, entry) in (1_u64..).zip(&all) {
        let is_it: Choice = entry.hash.0.ct_eq(&hash.0);
        found.conditional_assign(&number, is_it);
    }
    let index = usize::try_from(found).ok().and_then(|number| number.checked_sub(1));
    let Some(entry) = index.and_then(|index| all.get(index)) else { return Err(Refusal::UnknownToken) };
    let name = entry.name.clone();
    if let Some(ago) = entry.expires.and_then(|expires| now.duration_since(expires).ok()) {
        return Err(Refusal::ExpiredToken { name, ago: ago.max(Duration::from_secs(1)) });
    }
    if !entry.scopes.include(wanted) {
        return Err(Refusal::Scope { name, scopes: entry.scopes.clone(), wanted });
    }
    Ok(Grant { token: Some(name), claims: None, ids: entry.ids.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, secret: &Secret, expires: Option<SystemTime>) -> StaticToken {
        let scopes = Scopes(vec![Scope::Agent]);
        StaticToken { name: name.to_owned(), hash: secret.hash(), scopes, ids: None, expires }
    }

    #[test]
    fn tokens_are_found_by_their_hash_alone() {
        let now = SystemTime::now();
        let secrets = [1, 2, 3].map(|byte| Secret::generate([byte; 32]));
        let second = Duration::from_secs(1);
        let entries = [
            entry("first", &secrets[0], None),
            entry("last-minute", &secrets[1], Some(now + second)),
            entry("late", &secrets[2], Some(now - 180 * second)),
        ];
        let find = |secret: &str, scope| {
            let grant = find(&secret.parse().unwrap(), entries.iter(), scope, now);
            grant.map(|grant| grant.token.unwrap_or_default()).map_err(|refusal| refusal.to_string())
        };
        let [first, second, third] = secrets.map(Secret::into_text);
        assert_eq!(find(&first, Scope::Agent).as_deref(), Ok("first"));
        assert_eq!(find(&second, Scope::Agent).as_deref(), Ok("last-minute"));
        assert!(find(&third, Scope::Agent).unwrap_err().contains("\"late\" has expired 3 minutes ago"));
        assert!(find(&first, Scope::Client).unwrap_err().contains("is for agent, and this needs client"));
        assert!(find("cvg_x", Scope::Agent).unwrap_err().contains("does not know"));
        let hash = entries[0].hash.to_string();
        assert!(find(&hash, Scope::Agent).is_err(), "whoever reads the file has no token");
    }

    #[test]
    fn secrets_are_long_and_not_shown() {
        let secret = Secret::generate([0xfb; 32]);
        assert_eq!(format!("{secret:?}"), "Secret");
        let text = secret.into_text();
        assert_eq!((text.len(), text.starts_with(PREFIX)), (47, true));
        assert!(text.parse::<Token>().is_ok(), "{text}");
    }

    #[test]
    fn entries_are_read_as_they_are_written() {
        let hash = Secret::generate([1; 32]).hash();
        let text = format!(
            "name = 'ci'\nsha256 = '{hash}'\nscopes = ['agent', 'api:read']\nid-pattern = 'team-*'\n\
             expires = '2027-02-19T14:00:00Z'"
        );
        let token: StaticToken = toml::from_str(&text).unwrap();
        assert_eq!(token.hash, hash);
        assert!(token.scopes.include(Scope::ApiRead) && token.expires.is_some() && token.ids.is_some());
        let wrong = text.replace(&hash.to_string(), "cvg_secret");
        let error = toml::from_str::<StaticToken>(&wrong).unwrap_err();
        assert!(
            error.message().contains("token create") && !error.message().contains("cvg_secret"),
            "{error}"
        );
    }
}

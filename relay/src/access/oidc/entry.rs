//! `[[access.oidc]]`: a CI system whose tokens are good, and for whom.

use super::{ClaimRule, IdTemplate, IssuerKind, keys::KeySource};
use crate::access::{Scope, Scopes};
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

/// An entry as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OidcEntry {
    /// `github`, `gitlab` or `generic`.
    pub kind: IssuerKind,
    /// The issuer's URL, exactly as its tokens have it in `iss`. Default: github.com's or gitlab.com's.
    pub issuer: Option<String>,
    /// Whom tokens must be for. Default: the relay's public URL, which is what agents ask for.
    pub audience: Option<OneOrMany>,
    /// Where the issuer's keys are. Default: where its discovery document says.
    pub jwks_url: Option<String>,
    /// What claims must be like; all of them.
    pub claims: BTreeMap<String, OneOrMany>,
    /// What tokens are for. Default: `agent`.
    pub scopes: Option<Scopes>,
    /// The IDs that a job may have.
    pub id: Option<String>,
    /// Whether jobs are let in that a pull request from a fork may have caused.
    pub allow_fork: bool,
}

/// A text or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A text.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A CI system whose tokens are good, checked.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// What it is.
    pub kind: IssuerKind,
    /// What its tokens have in `iss`.
    pub issuer: String,
    /// One of these must be in `aud`; never empty.
    pub audiences: Vec<String>,
    /// Where its keys come from.
    pub(super) keys: KeySource,
    /// All must hold.
    pub rules: Vec<ClaimRule>,
    /// What its tokens are for.
    pub scopes: Scopes,
    /// The IDs that a job may have; any without it.
    pub id: Option<IdTemplate>,
    /// Whether jobs are let in that strangers may have caused.
    pub allow_fork: bool,
}

/// What is wrong with an entry. Every text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// Nobody to trust.
    #[error("issuer is missing; kind = \"github\" and kind = \"gitlab\" know theirs")]
    NoIssuer,
    /// Keys that come in clear would be anybody's.
    #[error("{key}: {url:?} is not a URL that begins with https://")]
    NotHttps {
        /// Which key of the file.
        key: &'static str,
        /// What it says.
        url: String,
    },
    /// Whose tokens?
    #[error("audience is missing; without --public-url there is no default")]
    NoAudience,
    /// Everybody on the site could register.
    #[error(
        "claims: anybody can have a token of {issuer}, so say whose jobs are let in, such as {example} = \"OWNER\" (or \
         \"*\", if you mean everybody)"
    )]
    NoRule {
        /// Whose.
        issuer: String,
        /// A claim.
        example: &'static str,
    },
    /// Nothing could be like it.
    #[error("claims.{0} has no pattern")]
    EmptyRule(String),
    /// See the text.
    #[error("id: {0}")]
    Id(String),
    /// Tokens for nothing.
    #[error("scopes is empty")]
    NoScope,
    /// A job is not an operator.
    #[error("scopes: {0} is not for CI jobs; make a token with `converge-relay token create`")]
    Scope(Scope),
}

impl TrustedIssuer {
    /// Checks an entry. `default_audience` is the relay's public URL.
    ///
    /// # Errors
    /// [`InvalidEntry`].
    pub fn new(entry: OidcEntry, default_audience: Option<&str>) -> Result<Self, InvalidEntry> {
        let OidcEntry { kind, issuer, audience, jwks_url, claims, scopes, id, allow_fork } = entry;
        let issuer = issuer.or_else(|| kind.issuer().map(str::to_owned)).ok_or(InvalidEntry::NoIssuer)?;
        check_https("issuer", &issuer)?;
        if let Some(url) = &jwks_url {
            check_https("jwks-url", url)?;
        }
        let audiences = match audience {
            Some(audience) => audience.into_vec(),
            None => default_audience.map(str::to_owned).into_iter().collect(),
        };
        if audiences.is_empty() {
            return Err(InvalidEntry::NoAudience);
        }
        let rules: Vec<_> = claims
            .into_iter()
            .map(|(name, patterns)| ClaimRule { name, patterns: patterns.into_vec() })
            .collect();
        if let Some(rule) = rules.iter().find(|rule| rule.patterns.is_empty()) {
            return Err(InvalidEntry::EmptyRule(rule.name.clone()));
        }
        let identifying = kind.identifying();
        if let Some(example) = identifying.first()
            && !rules.iter().any(|rule| identifying.contains(&rule.name.as_str()))
        {
            return Err(InvalidEntry::NoRule { issuer, example });
        }
        let scopes = scopes.unwrap_or_else(|| Scopes(vec![Scope::Agent]));
        if scopes.0.is_empty() {
            return Err(InvalidEntry::NoScope);
        }
        if let Some(scope) = scopes.0.iter().find(|scope| !matches!(scope, Scope::Agent | Scope::Client)) {
            return Err(InvalidEntry::Scope(*scope));
        }
        let id = id.map(|text| text.parse::<IdTemplate>()).transpose();
        let id = id.map_err(|error| InvalidEntry::Id(error.to_string()))?;
        let keys = KeySource { issuer: issuer.clone(), jwks_url };
        Ok(Self { kind, issuer, audiences, keys, rules, scopes, id, allow_fork })
    }
}

fn check_https(key: &'static str, text: &str) -> Result<(), InvalidEntry> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(()),
        _ => Err(InvalidEntry::NotHttps { key, url: text.chars().take(200).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> Result<TrustedIssuer, String> {
        let entry: OidcEntry = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        TrustedIssuer::new(entry, Some("https://relay.example")).map_err(|error| error.to_string())
    }

    #[test]
    fn github_needs_little() {
        let issuer = new("kind = 'github'\nclaims = { repository_owner = 'octocat' }").unwrap();
        assert_eq!(issuer.issuer, IssuerKind::GITHUB);
        assert_eq!(issuer.audiences, ["https://relay.example"]);
        assert_eq!(issuer.scopes, Scopes(vec![Scope::Agent]));
        assert!(!issuer.allow_fork && issuer.id.is_none());
        let lists = "kind = 'gitlab'\naudience = ['a', 'b']\nid = '{project_id}-*'\nscopes = ['client']\n\
             claims = { namespace_path = 'team', ref = ['main', 'v*'] }";
        let issuer = new(lists).unwrap();
        assert_eq!((issuer.audiences.len(), issuer.rules.len()), (2, 2));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (text, key) in [
            ("", "issuer"),
            ("issuer = 'http://ci.example'", "issuer: "),
            ("issuer = 'https://ci.example'\njwks-url = 'file:///x'", "jwks-url: "),
            ("kind = 'github'", "repository = \"OWNER\""),
            ("kind = 'gitlab'\nclaims = { ref = 'main' }", "project_path"),
            ("issuer = 'https://ci.example'\nclaims = { x = [] }", "claims.x"),
            ("issuer = 'https://ci.example'\nid = 'X'", "id: "),
            ("issuer = 'https://ci.example'\nscopes = ['api:write']", "scopes: api:write"),
            ("issuer = 'https://ci.example'\nscopes = []", "scopes"),
            ("issuer = 'https://ci.example'\nfork = true", "fork"),
            ("kind = 'jenkins'", "jenkins"),
        ] {
            let error = new(text).unwrap_err();
            assert!(error.contains(key), "{text:?}: {error}");
        }
        let none = TrustedIssuer::new(
            OidcEntry { issuer: Some("https://ci.example".to_owned()), ..OidcEntry::default() },
            None,
        );
        assert_eq!(none.unwrap_err(), InvalidEntry::NoAudience);
    }
}

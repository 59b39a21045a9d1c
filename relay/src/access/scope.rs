//! What can be asked for.

use serde::{Deserialize, Deserializer};
use std::{fmt, str::FromStr};

/// What a token lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Register as an agent.
    Agent,
    /// Look up agents and open sessions with them.
    Client,
    /// Read the API.
    ApiRead,
    /// Change things through the API; reading is included.
    ApiWrite,
    /// Read the metrics.
    Metrics,
    /// See the page of sessions.
    SessionsPage,
}

impl Scope {
    /// Every scope, in order.
    pub const ALL: [Self; 6] =
        [Self::Agent, Self::Client, Self::ApiRead, Self::ApiWrite, Self::Metrics, Self::SessionsPage];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
            Self::ApiRead => "api:read",
            Self::ApiWrite => "api:write",
            Self::Metrics => "metrics",
            Self::SessionsPage => "sessions-page",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; there are agent, client, api:read, api:write, metrics and sessions-page")]
pub struct NoSuchScope(String);

impl FromStr for Scope {
    type Err = NoSuchScope;

    fn from_str(text: &str) -> Result<Self, NoSuchScope> {
        let scope = Self::ALL.into_iter().find(|scope| scope.name() == text);
        scope.ok_or_else(|| NoSuchScope(text.chars().take(100).collect()))
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Several of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Scopes(pub Vec<Scope>);

impl Scopes {
    /// Whether this is among them.
    pub fn include(&self, wanted: Scope) -> bool {
        self.0
            .iter()
            .any(|scope| *scope == wanted || matches!((scope, wanted), (Scope::ApiWrite, Scope::ApiRead)))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|scope| scope.name()).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert!("x".parse::<Scope>().unwrap_err().to_string().contains(scope.name()));
        }
    }

    #[test]
    fn who_may_write_may_read_and_nothing_else_is_included() {
        let write = Scopes(vec![Scope::ApiWrite]);
        let included: Vec<_> = Scope::ALL.into_iter().filter(|scope| write.include(*scope)).collect();
        assert_eq!(included, [Scope::ApiRead, Scope::ApiWrite]);
        assert!(!Scopes(vec![Scope::ApiRead]).include(Scope::ApiWrite));
    }
}

//! Which IDs a token is for.

use super::glob;
use converge_proto::Id;
use serde::{Deserialize, Deserializer};
use std::{fmt, str::FromStr};

/// IDs in which `*` stands for any characters: `team-*`. Without a `*` it is one ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern(String);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdPattern {
    /// No ID could be like it.
    #[error("no ID is like {0:?}: IDs have 1 to 63 of a-z, 0-9 and '-', and * stands for any of them")]
    Impossible(String),
}

impl IdPattern {
    /// The pattern of one ID.
    pub fn of(id: &Id) -> Self {
        Self(id.to_string())
    }

    /// Whether an ID is like it.
    pub fn matches(&self, id: &Id) -> bool {
        glob::matches(&self.0, id.as_str())
    }

    /// The ID, when only one is like it.
    pub fn only(&self) -> Option<Id> {
        self.0.parse().ok()
    }

    /// An ID that is like it, made of another one; `None` when that would be too long.
    pub fn fill(&self, id: &Id) -> Option<Id> {
        match self.only() {
            Some(only) => Some(only),
            None => self.0.replace('*', id.as_str()).parse().ok(),
        }
    }
}

impl FromStr for IdPattern {
    type Err = InvalidIdPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let impossible = || InvalidIdPattern::Impossible(text.chars().take(100).collect());
        // A pattern into which no generated ID fits would refuse agents that leave their ID to the relay.
        let pattern = Self(text.to_owned());
        match pattern.fill(&Id::generate([0; Id::ENTROPY_BYTES])) {
            Some(_) => Ok(pattern),
            None => Err(impossible()),
        }
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_whole_ids() {
        let team: IdPattern = "team-*".parse().unwrap();
        assert!(team.matches(&id("team-build")) && !team.matches(&id("other-team-build")));
        assert_eq!((team.only(), team.fill(&id("x"))), (None, Some(id("team-x"))));
        let one: IdPattern = "nightly".parse().unwrap();
        assert!(one.matches(&id("nightly")) && !one.matches(&id("nightly2")));
        assert_eq!((one.only(), one.fill(&id("x"))), (Some(id("nightly")), Some(id("nightly"))));
        assert_eq!("*-ci-*".parse::<IdPattern>().unwrap().fill(&id("x")), Some(id("x-ci-x")));
        assert_eq!("*".parse::<IdPattern>().unwrap().fill(&id("x")), Some(id("x")));
    }

    #[test]
    fn patterns_that_no_id_is_like_are_refused() {
        let long = "x".repeat(60) + "*";
        for wrong in ["", "Team-*", "team_*", "-*", "a b", &long] {
            assert!(wrong.parse::<IdPattern>().is_err(), "{wrong}");
        }
    }
}

//! Variables of the CI step that sessions do not inherit.
//!
//! This keeps secrets from being shown by accident, in a shared terminal or by a program that prints its environment.
//! It keeps nothing from somebody who looks for it: sessions run as the agent's own user, who can read the
//! environment of the agent and of its parents in `/proc`.

use std::{ffi::OsString, str::FromStr};

/// The agent's own settings that may hold a secret. They are never handed on, whatever else is: the agent needs them,
/// and sessions do not.
///
/// `CONVERGE_TOKEN`, whatever it will be called in full, lets somebody register at a relay; `CONVERGE_PROXY` may hold a
/// proxy's password.
pub const NEVER_HANDED_ON: [&str; 4] =
    ["CONVERGE_*TOKEN*", "CONVERGE_*SECRET*", "CONVERGE_*PASSWORD*", "CONVERGE_PROXY"];

/// A pattern of variable names: `*` stands for any characters, `?` for one; upper and lower case are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPattern(Vec<char>);

impl ScrubPattern {
    const MAX_CHARACTERS: usize = 256;

    /// Whether the whole of `name` is like this. Takes at most the product of both lengths in steps.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = folded(name).collect();
        let (mut at, mut in_name) = (0, 0);
        // Where to go on when what is behind the last `*` does not fit: it swallows one more character then.
        let mut retry = None;
        while let Some(character) = name.get(in_name) {
            match self.0.get(at) {
                Some('*') => {
                    retry = Some((at + 1, in_name));
                    at += 1;
                }
                Some(wanted) if *wanted == '?' || wanted == character => {
                    at += 1;
                    in_name += 1;
                }
                _ => {
                    let Some((behind, swallowed)) = retry else { return false };
                    retry = Some((behind, swallowed + 1));
                    (at, in_name) = (behind, swallowed + 1);
                }
            }
        }
        self.0.iter().skip(at).all(|rest| *rest == '*')
    }
}

/// Without the difference between upper and lower case.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

impl FromStr for ScrubPattern {
    type Err = ScrubPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ScrubPatternError::Empty);
        }
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(ScrubPatternError::TooLong);
        }
        if text.contains(|character: char| character == '=' || character.is_control()) {
            return Err(ScrubPatternError::NoName);
        }
        Ok(Self(folded(text).collect()))
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubPatternError {
    /// There is nothing in it.
    #[error("an empty pattern; give the name of a variable, or a part of it with * around")]
    Empty,
    /// It is longer than any sensible name.
    #[error("a pattern has at most {} characters", ScrubPattern::MAX_CHARACTERS)]
    TooLong,
    /// No variable has such a name.
    #[error("names of variables have no = and no control characters; give names, not values")]
    NoName,
}

/// What sessions do not inherit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubPatterns(Vec<ScrubPattern>);

impl ScrubPatterns {
    /// From what `--scrub-env` was given.
    pub fn new(patterns: Vec<ScrubPattern>) -> Self {
        Self(patterns)
    }

    /// The environment without the variables that match, and without [`NEVER_HANDED_ON`].
    pub fn scrub(&self, environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
        let own: Vec<ScrubPattern> = NEVER_HANDED_ON.iter().filter_map(|text| text.parse().ok()).collect();
        let is_kept = |name: &OsString| {
            let name = name.to_string_lossy();
            !self.0.iter().chain(&own).any(|pattern| pattern.matches(&name))
        };
        environment.into_iter().filter(|(name, _)| is_kept(name)).collect()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<ScrubPattern>().unwrap().matches(name)
    }

    #[test]
    fn patterns_are_globs_without_case() {
        for (pattern, name) in [
            ("PATH", "path"),
            ("*TOKEN*", "npm_token"),
            ("*token*", "TOKEN"),
            ("AWS_*", "AWS_"),
            ("AWS_?", "aws_x"),
            ("*", ""),
            ("*a*b*c", "xaxbxcxc"),
            ("**", "x"),
            ("?", "ä"),
            (" X ", "x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("PATH", "PATHS"),
            ("AWS_?", "AWS_"),
            ("*TOKEN", "TOKENS"),
            ("a*b", "ab_"),
            ("?", ""),
            ("?", "xy"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn senseless_patterns_are_refused() {
        let parse = |text: &str| text.parse::<ScrubPattern>().unwrap_err();
        assert_eq!(parse(" "), ScrubPatternError::Empty);
        assert_eq!(parse("TOKEN=1234"), ScrubPatternError::NoName);
        assert_eq!(
            parse(
                "A
B"
            ),
            ScrubPatternError::NoName
        );
        assert_eq!(parse(&"x".repeat(257)), ScrubPatternError::TooLong);
        assert!("x".repeat(256).parse::<ScrubPattern>().is_ok());
    }

    #[test]
    fn what_matches_is_gone_and_the_rest_is_as_it_was() {
        let odd = || OsString::from_vec(b"odd\xff".to_vec());
        let environment: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), "/bin".into()),
            ("NPM_TOKEN".into(), "1".into()),
            ("AWS_REGION".into(), "2".into()),
            (odd(), odd()),
            ("A".into(), "B".into()),
        ];
        let patterns = ["*token*", "AWS_*", "a"].map(|text| text.parse().unwrap());
        let left = ScrubPatterns::new(patterns.to_vec()).scrub(environment.clone());
        assert_eq!(left, [environment[0].clone(), environment[3].clone()]);
        assert_eq!(ScrubPatterns::default().scrub(environment.clone()), environment);
    }

    #[test]
    fn own_secrets_are_never_handed_on() {
        let variable = |name: &str| (OsString::from(name), OsString::from("x"));
        let secrets = ["CONVERGE_TOKEN", "CONVERGE_TOKEN_FILE", "CONVERGE_REGISTER_TOKEN", "CONVERGE_PROXY"];
        let others = ["CONVERGE_ID", "CONVERGE_RELAY", "TOKEN", "MY_CONVERGE_TOKEN"];
        let left = ScrubPatterns::default()
            .scrub(secrets.iter().chain(&others).map(|name| variable(name)).collect());
        assert_eq!(left, others.map(variable));
    }

    proptest! {
        #[test]
        fn a_name_with_stars_put_in_still_matches(name in "[A-Z_?]{0,20}", at in 0..20_usize, len in 0..8_usize) {
            let at = at.min(name.len());
            let end = (at + len).min(name.len());
            let pattern = format!("{}*{}", &name[..at], &name[end..]);
            prop_assert!(matches(&pattern, &name));
            let with_more = pattern + "!";
            prop_assert!(!matches(&with_more, &name));
        }
    }
}

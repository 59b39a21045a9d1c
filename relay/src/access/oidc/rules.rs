//! What the operator wants of claims.

use super::{OidcRefusal, clipped};
use crate::access::{IdPattern, claims, glob};
use serde_json::{Map, Value};
use std::str::FromStr;

/// A claim must be like one of these patterns, in which `*` stands for any characters. Of a claim that is a list, one
/// member must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// The claim.
    pub name: String,
    /// What it may be; never empty.
    pub patterns: Vec<String>,
}

impl ClaimRule {
    /// # Errors
    /// [`OidcRefusal::Claim`].
    pub(super) fn check(&self, all: &Map<String, Value>) -> Result<(), OidcRefusal> {
        let values: Vec<String> = match all.get(&self.name) {
            Some(Value::Array(values)) => values.iter().filter_map(claims::text).collect(),
            Some(value) => claims::text(value).into_iter().collect(),
            None => Vec::new(),
        };
        let is_like = |value: &String| self.patterns.iter().any(|pattern| glob::matches(pattern, value));
        if values.iter().any(is_like) {
            return Ok(());
        }
        let value = (!values.is_empty()).then(|| clipped(&values.join(", ")));
        Err(OidcRefusal::Claim { name: self.name.clone(), value })
    }
}

/// The IDs that a job may have, made of its claims: `{repository_owner_id}-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(String),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern of IDs: it has a-z, 0-9, '-', * for any characters, and {{CLAIM}} for what a claim is"
)]
pub struct InvalidIdTemplate(String);

impl IdTemplate {
    /// The pattern for a job. What cannot be in an ID becomes `-`, and capitals become small.
    ///
    /// # Errors
    /// [`OidcRefusal::Claim`] when a claim is missing, or makes no ID.
    pub(super) fn fill(&self, all: &Map<String, Value>) -> Result<IdPattern, OidcRefusal> {
        let mut pattern = String::new();
        let mut last = None;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => pattern += text,
                Piece::Claim(name) => {
                    let value = all.get(name).and_then(claims::text);
                    let missing = || OidcRefusal::Claim { name: name.clone(), value: None };
                    let value = value.filter(|value| !value.is_empty()).ok_or_else(missing)?;
                    pattern.extend(value.chars().map(|character| match character.to_ascii_lowercase() {
                        fits @ ('a'..='z' | '0'..='9') => fits,
                        _ => '-',
                    }));
                    last = Some((name, value));
                }
            }
        }
        pattern.parse().map_err(|_| {
            let (name, value) =
                last.map_or((String::new(), None), |(name, value)| (name.clone(), Some(value)));
            OidcRefusal::Claim { name, value: value.map(|value| clipped(&value)) }
        })
    }
}

impl FromStr for IdTemplate {
    type Err = InvalidIdTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidIdTemplate> {
        let wrong = || InvalidIdTemplate(clipped(text));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or_else(wrong)?;
            if name.is_empty() {
                return Err(wrong());
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Claim(name.to_owned()));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let template = Self(pieces);
        // With any claim in it, it must be possible.
        let names = template.0.iter().filter_map(|piece| match piece {
            Piece::Claim(name) => Some((name.clone(), Value::from("x"))),
            Piece::Text(_) => None,
        });
        template.fill(&names.collect()).map_err(|_| wrong())?;
        Ok(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn rule(name: &str, patterns: &[&str]) -> ClaimRule {
        ClaimRule {
            name: name.to_owned(),
            patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn rules_look_at_texts_numbers_and_members_of_lists() {
        let all = claims(&json!({
            "owner": "octocat", "id": 7, "protected": true, "groups": ["a", "b/c"], "odd": {"x": 1}, "none": null,
        }));
        assert_eq!(rule("owner", &["other", "octo*"]).check(&all), Ok(()));
        assert_eq!(rule("id", &["7"]).check(&all), Ok(()));
        assert_eq!(rule("protected", &["true"]).check(&all), Ok(()));
        assert_eq!(rule("groups", &["b/*"]).check(&all), Ok(()));
        for (name, patterns) in
            [("owner", ["Octocat"]), ("groups", ["c"]), ("odd", ["*"]), ("none", ["*"]), ("missing", ["*"])]
        {
            assert!(rule(name, &patterns).check(&all).is_err(), "{name}");
        }
        let refusal = rule("owner", &["other"]).check(&all).unwrap_err().to_string();
        assert_eq!(refusal, "this relay takes no job whose owner is octocat");
    }

    #[test]
    fn templates_make_patterns_of_claims() {
        let all = claims(&json!({"owner": "Octo.Cat", "id": 7, "star": "*"}));
        let fill = |text: &str| {
            text.parse::<IdTemplate>().map(|template| template.fill(&all).map(|pattern| pattern.to_string()))
        };
        assert_eq!(fill("{owner}-*"), Ok(Ok("octo-cat-*".to_owned())));
        assert_eq!(fill("ci-{id}"), Ok(Ok("ci-7".to_owned())));
        assert!(fill("{missing}-*").unwrap().is_err());
        assert!(fill("{star}").unwrap().is_err(), "a star in a claim is no star");
        for wrong in ["", "{owner", "{}-x", "A-*", "-{owner}"] {
            assert!(wrong.parse::<IdTemplate>().is_err(), "{wrong}");
        }
    }
}

//! What is kept of what a CI system has signed.

use super::oidc::IssuerKind;
use converge_proto::rendezvous::messages::Line;
use serde_json::{Map, Value};
use std::fmt;

/// The longest value that is kept, in characters.
const MAX_VALUE_CHARACTERS: usize = 200;
/// Claims that are kept of one token.
const MAX_CLAIMS: usize = 24;

/// Verified claims: the issuer, and those that say which job this is. For operators: who may see them is decided where
/// they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who has signed them.
    pub issuer: String,
    /// What kind of CI system that is.
    pub kind: IssuerKind,
    /// Names and values, in the order of [`IssuerKind::kept`]; then those that the operator's rules look at.
    pub values: Vec<(String, String)>,
}

impl Claims {
    pub(super) fn new(
        issuer: &str,
        kind: IssuerKind,
        all: &Map<String, Value>,
        ruled: impl Iterator<Item = String>,
    ) -> Self {
        let mut names: Vec<String> = kind.kept().iter().map(|name| (*name).to_owned()).collect();
        for name in ruled {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let values = names.into_iter().filter_map(|name| {
            let value = text(all.get(&name)?)?;
            let value: String = value.chars().take(MAX_VALUE_CHARACTERS).collect();
            Some((name, Line::new(value).to_string()))
        });
        Self { issuer: issuer.to_owned(), kind, values: values.take(MAX_CLAIMS).collect() }
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The repository or project.
    pub fn project(&self) -> Option<&str> {
        self.get("repository").or_else(|| self.get("project_path"))
    }

    /// Where people look at the job, as far as its issuer's own site tells.
    pub fn job_url(&self) -> Option<String> {
        match self.kind {
            IssuerKind::Github if self.issuer == IssuerKind::GITHUB => {
                let (repository, run) = (self.get("repository")?, self.get("run_id")?);
                let attempt = self.get("run_attempt").unwrap_or("1");
                Some(format!("https://github.com/{repository}/actions/runs/{run}/attempts/{attempt}"))
            }
            IssuerKind::Gitlab => {
                let project = self.get("job_project_path").or_else(|| self.get("project_path"))?;
                let job = self.get("job_id")?;
                Some(format!("{}/{project}/-/jobs/{job}", self.issuer.trim_end_matches('/')))
            }
            IssuerKind::Github | IssuerKind::Generic => None,
        }
    }
}

/// `octocat/hello refs/heads/main (push)`, for logs.
impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.project().or_else(|| self.get("sub")).unwrap_or("a job"))?;
        if let Some(at) = self.get("ref") {
            write!(f, " {at}")?;
        }
        match self.get("event_name").or_else(|| self.get("pipeline_source")) {
            Some(event) => write!(f, " ({event})"),
            None => Ok(()),
        }
    }
}

/// A claim's value as rules and people read it; lists and objects have none.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

//! Which CI system an issuer is.

use serde::Deserialize;

/// What is known of an issuer: which of its claims say which job this is, and how it tells forks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuerKind {
    /// GitHub Actions, or a GitHub Enterprise Server.
    Github,
    /// GitLab CI.
    Gitlab,
    /// Something else that speaks OpenID Connect.
    #[default]
    Generic,
}

impl IssuerKind {
    /// The issuer of GitHub Actions on github.com.
    pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
    /// The issuer of GitLab CI on gitlab.com.
    pub const GITLAB: &str = "https://gitlab.com";

    /// The issuer, unless the operator names another.
    pub fn issuer(self) -> Option<&'static str> {
        match self {
            Self::Github => Some(Self::GITHUB),
            Self::Gitlab => Some(Self::GITLAB),
            Self::Generic => None,
        }
    }

    /// The claims that are kept of a token.
    pub fn kept(self) -> &'static [&'static str] {
        match self {
            Self::Github => &[
                "sub",
                "repository",
                "repository_owner",
                "repository_visibility",
                "ref",
                "sha",
                "event_name",
                "workflow",
                "job_workflow_ref",
                "run_id",
                "run_attempt",
                "actor",
                "environment",
            ],
            Self::Gitlab => &[
                "sub",
                "project_path",
                "job_project_path",
                "namespace_path",
                "ref",
                "ref_type",
                "ref_protected",
                "sha",
                "pipeline_source",
                "pipeline_id",
                "job_id",
                "user_login",
                "environment",
            ],
            Self::Generic => &["sub"],
        }
    }

    /// Claims that say whose job it is. Everybody can have a token of these issuers, so a rule about one of these there
    /// must be.
    pub(super) fn identifying(self) -> &'static [&'static str] {
        match self {
            Self::Github => &[
                "repository",
                "repository_id",
                "repository_owner",
                "repository_owner_id",
                "enterprise",
                "enterprise_id",
                "job_workflow_ref",
                "workflow_ref",
                "sub",
            ],
            Self::Gitlab => &[
                "project_path",
                "project_id",
                "namespace_path",
                "namespace_id",
                "job_project_path",
                "job_project_id",
                "job_namespace_path",
                "job_namespace_id",
                "groups_direct",
                "user_login",
                "user_id",
                "sub",
            ],
            Self::Generic => &[],
        }
    }
}

//! Which variables each CI system sets for its jobs, by its own documentation:
//!
//! - GitHub Actions: `docs.github.com/actions/reference/workflows-and-actions/variables`; the run's URL is put together
//!   as that page says.
//! - GitLab: `docs.gitlab.com/ci/variables/predefined_variables`
//! - Jenkins: the page `env-vars.html` of every Jenkins. `JENKINS_URL` and `BUILD_URL` are there only if its
//!   administrator has set its URL; `GIT_BRANCH` is the git plugin's.
//! - `CircleCI`: `circleci.com/docs/reference/variables`
//! - Buildkite: `buildkite.com/docs/pipelines/configure/environment-variables`
//! - Azure Pipelines: `learn.microsoft.com/azure/devops/pipelines/build/variables`. The URL of a run is not documented as
//!   such, but what the web interface itself uses.

use super::{CiJob, CiSystem, text, web_url};
use converge_proto::rendezvous::messages::{Line, Name};
use std::{ffi::OsString, path::PathBuf};
use url::Url;

/// Longer values are taken for nonsense.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Looks up variables.
pub(super) struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl<'a> Environment<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(variable)
    }

    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?;
        let is_of_use = !value.is_empty() && value.len() <= MAX_VALUE_BYTES;
        is_of_use.then(|| value.to_string_lossy().into_owned())
    }

    /// The first of several variables that there is.
    fn text(&self, names: &[&str]) -> Option<Name> {
        names.iter().find_map(|name| text(&self.get(name)?))
    }

    fn url(&self, name: &str) -> Option<Line> {
        web_url(&self.get(name)?)
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.0)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A URL below the one in a variable.
    fn url_below(&self, name: &str, path: &[&str], query: Option<(&str, &str)>) -> Option<Line> {
        let mut url = Url::parse(&self.get(name)?).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(path);
        if let Some((key, value)) = query {
            url.query_pairs_mut().append_pair(key, value);
        }
        web_url(url.as_str())
    }
}

/// Systems that say who they are come before those that are guessed.
pub(super) fn detect(environment: &Environment<'_>) -> CiJob {
    let is_jenkins = || {
        let tag = environment.get("BUILD_TAG");
        environment.get("JENKINS_URL").is_some() || tag.is_some_and(|tag| tag.starts_with("jenkins-"))
    };
    if environment.is_true("GITHUB_ACTIONS") {
        github_actions(environment)
    } else if environment.is_true("GITLAB_CI") {
        gitlab_ci(environment)
    } else if environment.is_true("CIRCLECI") {
        circle_ci(environment)
    } else if environment.is_true("BUILDKITE") {
        buildkite(environment)
    } else if environment.is_true("TF_BUILD") {
        azure_pipelines(environment)
    } else if is_jenkins() {
        jenkins(environment)
    } else if environment.is_true("CI") {
        CiJob { system: CiSystem::Other, ..CiJob::default() }
    } else {
        CiJob::default()
    }
}

fn github_actions(environment: &Environment<'_>) -> CiJob {
    let repository = environment.get("GITHUB_REPOSITORY");
    let url = repository.as_deref().and_then(|repository| {
        let run = environment.get("GITHUB_RUN_ID")?;
        let path: Vec<&str> = repository.split('/').chain(["actions", "runs", &run]).collect();
        environment.url_below("GITHUB_SERVER_URL", &path, None)
    });
    CiJob {
        system: CiSystem::GithubActions,
        name: environment.text(&["GITHUB_JOB", "GITHUB_WORKFLOW"]),
        url,
        repository: repository.as_deref().and_then(text),
        reference: environment.text(&["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "GITHUB_REF"]),
        run_number: environment.text(&["GITHUB_RUN_NUMBER"]),
        summary: environment.path("GITHUB_STEP_SUMMARY"),
        given_name: None,
    }
}

fn gitlab_ci(environment: &Environment<'_>) -> CiJob {
    CiJob {
        system: CiSystem::GitlabCi,
        name: environment.text(&["CI_JOB_NAME"]),
        url: environment.url("CI_JOB_URL"),
        repository: environment.text(&["CI_PROJECT_PATH"]),
        reference: environment.text(&["CI_COMMIT_REF_NAME"]),
        run_number: environment.text(&["CI_PIPELINE_IID"]),
        ..CiJob::default()
    }
}

fn jenkins(environment: &Environment<'_>) -> CiJob {
    CiJob {
        system: CiSystem::Jenkins,
        // With its folders, which say more than a repository would.
        name: environment.text(&["JOB_NAME"]),
        url: environment.url("BUILD_URL"),
        repository: None,
        reference: environment.text(&["BRANCH_NAME", "GIT_BRANCH"]),
        run_number: environment.text(&["BUILD_NUMBER"]),
        ..CiJob::default()
    }
}

fn circle_ci(environment: &Environment<'_>) -> CiJob {
    let owner = environment.get("CIRCLE_PROJECT_USERNAME");
    let repository = environment.get("CIRCLE_PROJECT_REPONAME");
    let repository = match (owner, repository) {
        (Some(owner), Some(repository)) => Some(format!("{owner}/{repository}")),
        (owner, repository) => repository.or(owner),
    };
    CiJob {
        system: CiSystem::CircleCi,
        name: environment.text(&["CIRCLE_JOB"]),
        url: environment.url("CIRCLE_BUILD_URL"),
        repository: repository.as_deref().and_then(text),
        reference: environment.text(&["CIRCLE_TAG", "CIRCLE_BRANCH"]),
        run_number: environment.text(&["CIRCLE_BUILD_NUM"]),
        ..CiJob::default()
    }
}

fn buildkite(environment: &Environment<'_>) -> CiJob {
    CiJob {
        system: CiSystem::Buildkite,
        name: environment.text(&["BUILDKITE_LABEL"]),
        url: environment.url("BUILDKITE_BUILD_URL"),
        // Not BUILDKITE_REPO: what git clones from may have a password in it.
        repository: environment.text(&["BUILDKITE_PIPELINE_SLUG"]),
        reference: environment.text(&["BUILDKITE_BRANCH"]),
        run_number: environment.text(&["BUILDKITE_BUILD_NUMBER"]),
        ..CiJob::default()
    }
}

fn azure_pipelines(environment: &Environment<'_>) -> CiJob {
    let url = environment.get("SYSTEM_TEAMPROJECT").and_then(|project| {
        let build = environment.get("BUILD_BUILDID")?;
        let path = [&project, "_build", "results"];
        environment.url_below("SYSTEM_COLLECTIONURI", &path, Some(("buildId", &build)))
    });
    CiJob {
        system: CiSystem::AzurePipelines,
        name: environment.text(&["SYSTEM_JOBDISPLAYNAME", "AGENT_JOBNAME"]),
        url,
        repository: environment.text(&["BUILD_REPOSITORY_NAME"]),
        reference: environment.text(&["BUILD_SOURCEBRANCHNAME", "BUILD_SOURCEBRANCH"]),
        run_number: environment.text(&["BUILD_BUILDNUMBER"]),
        ..CiJob::default()
    }
}

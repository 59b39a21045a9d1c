//! The CI job this agent runs in, as its environment tells, and what the CI system lets us show there.
//!
//! Everything comes from environment variables, which whoever writes the job, or opens a pull request, may have set.
//! So it is shown and never trusted: texts are cut and lose their control characters, a URL is parsed, must be
//! `http://` or `https://`, and loses a user name and password.

use crate::relay::announce::Announcement;
use converge_proto::rendezvous::{
    AgentInfo,
    messages::{Line, Name},
};
use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
};
use tracing::warn;
use url::Url;

mod github;
mod systems;

/// A CI system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CiSystem {
    /// GitHub Actions, or a system that is compatible with it.
    GithubActions,
    /// GitLab CI/CD.
    GitlabCi,
    /// Jenkins.
    Jenkins,
    /// `CircleCI`.
    CircleCi,
    /// Buildkite.
    Buildkite,
    /// Azure Pipelines.
    AzurePipelines,
    /// One that says no more than `CI=true`.
    Other,
    /// None: a person's machine, as far as one can see.
    #[default]
    None,
}

impl CiSystem {
    /// What the system calls itself, if it is known.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::GithubActions => Some("GitHub Actions"),
            Self::GitlabCi => Some("GitLab CI/CD"),
            Self::Jenkins => Some("Jenkins"),
            Self::CircleCi => Some("CircleCI"),
            Self::Buildkite => Some("Buildkite"),
            Self::AzurePipelines => Some("Azure Pipelines"),
            Self::Other | Self::None => None,
        }
    }
}

/// A job, as far as it is known. What is not known is `None`, and all texts can be shown anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiJob {
    /// Which system runs it.
    pub system: CiSystem,
    /// What the system calls the job.
    pub name: Option<Name>,
    /// Where it can be looked at.
    pub url: Option<Line>,
    /// The repository or pipeline it belongs to.
    pub repository: Option<Name>,
    /// The branch, tag or other reference it runs for.
    pub reference: Option<Name>,
    /// The number of the run, build or pipeline.
    pub run_number: Option<Name>,
    /// What the person who started the agent calls the job.
    given_name: Option<Name>,
    /// The file for a summary in Markdown, where the system has one.
    summary: Option<PathBuf>,
}

impl CiJob {
    /// Looks at the environment, through `variable`: usually `std::env::var_os`.
    pub fn detect(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        systems::detect(&systems::Environment::new(&variable))
    }

    /// With a name and a URL that count more than what the system says. A URL of another kind is dropped, with a
    /// warning.
    #[must_use]
    pub fn with(mut self, name: Option<&str>, url: Option<&str>) -> Self {
        self.given_name = name.and_then(text).or(self.given_name);
        if let Some(given) = url {
            self.url = web_url(given);
            if self.url.is_none() {
                warn!("the job's URL is left out: it is not a http:// or https:// URL of at most 512 bytes");
            }
        }
        self
    }

    /// The job in one line, such as `octocat/hello-world: test #3`.
    pub fn title(&self) -> Option<Name> {
        if self.given_name.is_some() {
            return self.given_name.clone();
        }
        let mut title =
            [&self.repository, &self.name].map(|part| part.as_ref().map_or("", Name::as_str)).join(": ");
        title = title.trim_start_matches(": ").trim_end_matches(": ").to_owned();
        if let Some(number) = &self.run_number {
            title += &format!(" #{number}");
        }
        text(&title)
    }

    /// Completes what the relay and clients are told about this agent.
    pub fn describe(&self, info: AgentInfo) -> AgentInfo {
        AgentInfo {
            job: self.title(),
            job_url: self.url.clone(),
            ci: self.system.name().map(Name::new),
            ..info
        }
    }

    /// Shows the announcement with the means of the CI system, beside its text in the log. To be called at the start
    /// of a line, just before that text is printed to the same place.
    ///
    /// - GitHub Actions: a notice with the line to copy on the page of the run, and a section in the job's summary.
    /// - Buildkite: a heading in the log that is open by default, with the text under it.
    /// - Azure Pipelines: a coloured heading in the log.
    /// - Others, which have nothing of the kind that a program in the job can use by itself: nothing.
    ///
    /// # Errors
    /// When `out` cannot be written. A summary that cannot is a warning in the log.
    pub fn announce(&self, announcement: &Announcement, out: &mut impl Write) -> io::Result<()> {
        let id = announcement.id();
        match self.system {
            CiSystem::GithubActions => {
                writeln!(out, "{}", github::notice("Open for ssh", &announcement.ssh_command()))?;
                if let Some(summary) = &self.summary
                    && let Err(error) = github::add_to_summary(summary, announcement)
                {
                    warn!(%error, "the lines to copy are not in the job's summary");
                }
            }
            CiSystem::Buildkite => writeln!(out, "+++ Open for ssh as {id}")?,
            CiSystem::AzurePipelines => writeln!(out, "##[section]Open for ssh as {id}")?,
            CiSystem::GitlabCi
            | CiSystem::Jenkins
            | CiSystem::CircleCi
            | CiSystem::Other
            | CiSystem::None => {
                return Ok(());
            }
        }
        out.flush()
    }
}

/// A text that can be shown; `None` if there is nothing in it.
fn text(text: &str) -> Option<Name> {
    let text = text.trim();
    (!text.is_empty()).then(|| Name::new(text))
}

/// A URL that may be shown as a link. One that is too long is dropped: cut it would lead elsewhere.
fn web_url(text: &str) -> Option<Line> {
    const MAX_BYTES: usize = 512;
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    // Both succeed on a URL with a host.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    (url.as_str().len() <= MAX_BYTES).then(|| Line::new(url.as_str()))
}

#[cfg(test)]
mod tests;

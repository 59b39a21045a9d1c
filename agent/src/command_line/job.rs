//! Which job this is, what sessions inherit of it, and who hears of what happens.

use crate::{
    events::hooks::{HookCommands, Hooks},
    events::log::{EventLog, EventLogTarget},
    job::ci::CiJob,
    job::scrub::{ScrubPattern, ScrubPatterns},
};
use anyhow::Context;
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

/// Which job this is, what sessions inherit of it, and who hears of what happens.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "The job")]
pub struct JobArguments {
    /// What to call this job; without it, what the CI system says
    #[arg(long, env = "CONVERGE_JOB_NAME", hide_short_help = true, value_name = "NAME")]
    pub job_name: Option<String>,
    /// Where this job can be looked at, http:// or https://; without it, what the CI system says
    #[arg(long, env = "CONVERGE_JOB_URL", hide_short_help = true, value_name = "URL")]
    pub job_url: Option<String>,
    /// Variables that sessions do not inherit, such as '*TOKEN*,AWS_*'. It hides them from accidents only: who is
    /// logged in can read the agent's own environment in /proc
    #[arg(long, env = "CONVERGE_SCRUB_ENV", value_name = "PATTERNS", value_delimiter = ',')]
    pub scrub_env: Vec<ScrubPattern>,
    /// Write who did what, and when, to a file, as lines of JSON; - is stdout
    #[arg(long, env = "CONVERGE_EVENT_LOG", hide_short_help = true, value_name = "FILE")]
    pub event_log: Option<EventLogTarget>,
    /// Run this with sh when somebody logs in; the event is on its stdin, as JSON
    #[arg(long, env = "CONVERGE_ON_LOGIN", hide_short_help = true, value_name = "COMMAND")]
    pub on_login: Option<OsString>,
    /// ... when the session of somebody who was logged in ends
    #[arg(long, env = "CONVERGE_ON_LOGOUT", hide_short_help = true, value_name = "COMMAND")]
    pub on_logout: Option<OsString>,
    /// ... when users are warned that the agent will end
    #[arg(long, env = "CONVERGE_ON_WARNING", hide_short_help = true, value_name = "COMMAND")]
    pub on_warning: Option<OsString>,
    /// ... when the agent ends
    #[arg(long, env = "CONVERGE_ON_EXIT", hide_short_help = true, value_name = "COMMAND")]
    pub on_exit: Option<OsString>,
}

impl JobArguments {
    /// The job, from the environment and from what was given.
    pub fn job(&self) -> CiJob {
        CiJob::detect(|name| std::env::var_os(name)).with(self.job_name.as_deref(), self.job_url.as_deref())
    }

    /// What sessions do not inherit.
    pub fn scrub_patterns(&self) -> ScrubPatterns {
        ScrubPatterns::new(self.scrub_env.clone())
    }

    /// The hooks, to run in `working_dir`.
    pub fn hooks(&self, working_dir: PathBuf) -> Hooks {
        let commands = HookCommands {
            login: self.on_login.clone(),
            logout: self.on_logout.clone(),
            warning: self.on_warning.clone(),
            exit: self.on_exit.clone(),
        };
        Hooks::new(commands, working_dir)
    }

    /// Opens the event log, if there is to be one.
    ///
    /// # Errors
    /// When it cannot be opened; the text is for the person who started the agent.
    pub async fn open_event_log(&self) -> anyhow::Result<Option<EventLog>> {
        let Some(target) = self.event_log.clone() else { return Ok(None) };
        let context = format!("cannot open the event log {target}; see --event-log");
        EventLog::open(target).await.map(Some).context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::CommandLine;
    use clap::{CommandFactory, Parser};

    fn parse(arguments: &[&str]) -> Result<JobArguments, clap::Error> {
        let all = ["converge-agent", "https://relay.example"].iter().chain(arguments);
        Ok(CommandLine::try_parse_from(all)?.agent.job)
    }

    #[test]
    fn arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn patterns_are_lists_that_can_be_repeated() {
        let job = parse(&["--scrub-env", "*TOKEN*, AWS_*", "--scrub-env", "x"]).unwrap();
        let environment =
            |names: &[&str]| names.iter().map(|name| (name.into(), "".into())).collect::<Vec<_>>();
        let left = job.scrub_patterns().scrub(environment(&["npm_token", "AWS_X", "X", "XY"]));
        assert_eq!(left, environment(&["XY"]));
        let error = parse(&["--scrub-env", "A=secret"]).unwrap_err().to_string();
        assert!(error.contains("give names, not values"), "{error}");
    }

    #[test]
    fn a_single_dash_is_stdout() {
        assert_eq!(parse(&["--event-log", "-"]).unwrap().event_log, Some(EventLogTarget::Stdout));
        let file = |name: &str| Some(EventLogTarget::File(name.into()));
        assert_eq!(parse(&["--event-log", "./-"]).unwrap().event_log, file("./-"));
        assert_eq!(parse(&[]).unwrap().event_log, None);
    }
}

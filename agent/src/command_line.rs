//! The agent's command line: one file per group of arguments, each with what it makes of them.

// Doc comments of the arguments are the text of `--help`, where backticks would be printed.
#![allow(clippy::doc_markdown)]

use crate::{
    AgentDir, Config,
    events::Events,
    job::step::{OpenOn, Step, StepEnd},
    life::login_text::LoginText,
};
use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use converge_proto::version::ProtocolVersion;
use std::{
    ffi::OsString,
    fmt::Display,
    path::{Path, PathBuf},
};

mod access;
mod clocks;
mod inside;
mod job;
mod place;
mod relay;
mod users;

pub use access::AccessArguments;
pub use clocks::ClockArguments;
pub use inside::{Inside, InsideCommand};
pub use job::JobArguments;
pub use place::{PlaceArguments, SftpServerArguments};
pub use relay::RelayArguments;
pub use users::UserArguments;

/// Opens the CI job it runs in for ssh, through a relay, to whoever has a key that is allowed.
#[derive(Debug, Parser)]
#[command(
    name = "converge-agent",
    version,
    long_version = long_version(),
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Every option can be given as a variable, too: CONVERGE_ and its name, such as CONVERGE_IDLE_TIMEOUT."
)]
pub struct CommandLine {
    /// What the agent runs with.
    #[command(flatten)]
    pub agent: AgentArguments,
    /// What else is to be done.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else can be done than opening a session at once.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a step of the job, and open a session when it fails
    Run(Box<RunArguments>),
    /// Serve sftp on stdin and stdout, in a container that this program was copied into
    #[command(hide = true)]
    SftpServer(SftpServerArguments),
    /// Something for an agent that runs.
    #[command(flatten)]
    Inside(InsideCommand),
}

impl CommandLine {
    /// Reads this process's arguments. Called as `rerun`, it is `converge-agent rerun`.
    pub fn of_this_process() -> Self {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        let name = arguments.first().and_then(|program| Path::new(program).file_stem());
        if name.is_some_and(|name| name == RERUN) {
            arguments.insert(1, RERUN.into());
        }
        let command = Self::definition();
        let matches = command.get_matches_from(arguments);
        // The same definition made both.
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What the arguments are. That each has a variable is said once.
    fn definition() -> clap::Command {
        fn hide(command: clap::Command) -> clap::Command {
            command.mut_args(|argument| argument.hide_env(true)).mut_subcommands(hide)
        }
        hide(<Self as CommandFactory>::command())
    }
}

/// The one word for running the step again.
pub const RERUN: &str = "rerun";

/// A step of a job, and what comes after it.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// When to open a session
    #[arg(
        long,
        env = "CONVERGE_ON",
        value_name = "END",
        default_value = "failure",
        hide_possible_values = true,
        help = "When to open a session: on failure, success, always or never"
    )]
    pub on: OpenOn,
    /// The agent that opens it.
    #[command(flatten)]
    pub agent: AgentArguments,
    /// The step's program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl RunArguments {
    /// What is to be run.
    pub fn step(&self) -> Step {
        Step::new(self.command.clone())
    }
}

/// Everything an agent can be told.
#[derive(Args, Debug)]
pub struct AgentArguments {
    /// Where the relay is.
    #[command(flatten)]
    pub relay: RelayArguments,
    /// Who may log in.
    #[command(flatten)]
    pub users: UserArguments,
    /// What they may do.
    #[command(flatten)]
    pub access: AccessArguments,
    /// Where what they run runs.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// When the agent ends by itself.
    #[command(flatten)]
    pub clocks: ClockArguments,
    /// Which job this is, and who hears of what happens in it.
    #[command(flatten)]
    pub job: JobArguments,
    /// The agent directory; without it a new one in the temporary folder, removed at the end
    #[arg(long, env = "CONVERGE_DIR", value_name = "DIR", help_heading = "The job")]
    pub dir: Option<PathBuf>,
}

impl AgentArguments {
    /// The configuration of an agent that runs in `directory`, after `step` if there was one.
    ///
    /// # Errors
    /// When something that was given cannot be used, or nobody could log in; the text is for the person who started it.
    pub async fn config(
        &self,
        directory: &AgentDir,
        step: Option<&StepEnd>,
        events: Events,
    ) -> anyhow::Result<Config> {
        let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
        let (relays, proxy) = (self.relay.urls()?, self.relay.proxy()?);
        let client_certificate = self.relay.client_certificate()?;
        let token = self.relay.token_source(relays.first(), &proxy)?;
        let place = self.place.place()?;
        // The last of what can be wrong, because it may go over the network.
        let host_key = directory.host_key(rand::random()).map_err(whole)?;
        let users = self.users.users(directory, &working_dir, proxy.clone()).await?;
        let job = self.job.job();
        let login_text = LoginText::new(&job, step).inside(place.as_ref());
        Ok(Config {
            token,
            relays,
            insecure: self.relay.insecure,
            hears_operator: !self.relay.ignore_operator,
            client_certificate,
            proxy,
            id: self.relay.id.clone(),
            agent_dir: directory.path().to_owned(),
            host_key,
            users,
            shells: self.access.shells.clone(),
            policy: self.access.policy()?,
            place,
            limits: self.clocks.limits(),
            environment: in_front_of_path(
                directory.tools(),
                self.job.scrub_patterns().scrub(std::env::vars_os().collect()),
            ),
            login_text,
            job,
            events,
            working_dir,
        })
    }
}

/// An environment in which the programs of this directory are found before all others.
fn in_front_of_path(
    directory: PathBuf,
    mut variables: Vec<(OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let path = variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let places = std::iter::once(directory).chain(std::env::split_paths(&path));
    // Fails for a directory with a colon in its name, which could not be found by anybody.
    if let Ok(path) = std::env::join_paths(places) {
        variables.retain(|(name, _)| name != "PATH");
        variables.push(("PATH".into(), path));
    }
    variables
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

/// An error whose text names its cause already.
pub fn whole(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

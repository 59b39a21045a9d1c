//! The agent's command line: one file per group of arguments, each with what it makes of them.

// Doc comments of the arguments are the text of `--help`, where backticks would be printed.
#![allow(clippy::doc_markdown)]

use crate::{AgentDir, Config};
use anyhow::Context;
use clap::{Args, Parser};
use converge_proto::version::ProtocolVersion;
use std::{fmt::Display, path::PathBuf};

mod access;
mod relay;
mod users;

pub use access::AccessArguments;
pub use relay::RelayArguments;
pub use users::UserArguments;

/// Opens the CI job it runs in for ssh, through a relay, to whoever has a key that is allowed.
#[derive(Debug, Parser)]
#[command(name = "converge-agent", version, long_version = long_version(), max_term_width = 100)]
pub struct CommandLine {
    /// What the agent runs with.
    #[command(flatten)]
    pub agent: AgentArguments,
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
    /// The agent directory; without it a new one in the temporary folder, removed at the end
    #[arg(long, env = "CONVERGE_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl AgentArguments {
    /// The configuration of an agent that runs in `directory`.
    ///
    /// # Errors
    /// When something that was given cannot be used, or nobody could log in; the text is for the person who started it.
    pub fn config(&self, directory: &AgentDir) -> anyhow::Result<Config> {
        let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
        let authorized_keys = self.users.authorized_keys(directory, &working_dir)?;
        Ok(Config {
            relay: self.relay.url()?,
            insecure: self.relay.insecure,
            proxy: self.relay.proxy()?,
            id: self.relay.id.clone(),
            agent_dir: directory.path().to_owned(),
            host_key: directory.host_key(rand::random()).map_err(whole)?,
            authorized_keys,
            shells: self.access.shells.clone(),
            working_dir,
        })
    }
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

/// An error whose text names its cause already.
pub fn whole(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

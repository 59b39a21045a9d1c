//! `converge-relay token`: making tokens.

use super::values::Time;
use crate::access::{IdPattern, Scope};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token, once, and keep its hash
    ///
    /// The token goes to standard output. What the relay has to know of it is added to the file of tokens, or printed to
    /// standard error when there is none; it does not give the token away.
    Create(CreateToken),
}

/// What the token is to be.
#[derive(Args, Debug)]
pub struct CreateToken {
    /// What to call it; its bearer and the logs see it
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it is for: agent, client, api:read, api:write, metrics, sessions-page
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    pub scope: Vec<Scope>,
    /// How long it is good, such as 90d; for ever without it
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Time>,
    /// The IDs that it is for, such as 'team-*'; any without it
    #[arg(long, value_name = "PATTERN")]
    pub id_pattern: Option<IdPattern>,
    /// The file that the relay's --tokens-file names; made when it is not there
    #[arg(long, env = "CONVERGE_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
}

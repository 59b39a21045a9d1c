//! What users may do.

use clap::Args;
use std::path::PathBuf;

/// What users may do, and with what.
#[derive(Args, Debug)]
#[command(next_help_heading = "What they may do")]
pub struct AccessArguments {
    /// Shells to try before $SHELL, bash and sh
    #[arg(long, env = "CONVERGE_SHELLS", value_name = "LIST", value_delimiter = ',')]
    pub shells: Vec<PathBuf>,
}

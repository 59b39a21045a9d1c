//! `converge-relay drain`.

use clap::Args;
use std::path::PathBuf;

/// Which relay.
#[derive(Args, Debug)]
pub struct DrainRelay {
    /// The state directory of that relay; "converge-relay-state" unless the file says otherwise
    #[arg(long, env = "CONVERGE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The configuration file of that relay
    #[arg(long, env = "CONVERGE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

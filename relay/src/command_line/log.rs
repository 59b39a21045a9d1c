//! `[log]`: what is written to standard error.

use super::{
    group::group,
    values::{self, LogFilter},
};
use clap::Args;
use serde::Deserialize;

/// `[log]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Log")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// What is logged: error, warn, info, debug or trace; or by part: `info,converge_relay=debug`
    #[arg(long, env = "CONVERGE_LOG", value_name = "LEVEL", default_value = "info", hide_short_help = true)]
    #[serde(deserialize_with = "values::from_text")]
    pub log: Option<LogFilter>,
}

group!(Log, "log", live: [log], restart: []);

//! `[log]`: what is written down, and where.

use super::{
    group::group,
    values::{self, LogFilter, LogFormat},
};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// `[log]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Log")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// What is logged: error, warn, info, debug or trace; or by part: `info,converge_relay=debug`
    #[arg(long, env = "CONVERGE_LOG", value_name = "LEVEL", default_value = "info", hide_short_help = true)]
    #[serde(deserialize_with = "values::from_text")]
    pub log: Option<LogFilter>,
    /// How it is logged
    #[arg(
        long,
        env = "CONVERGE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_short_help = true
    )]
    pub log_format: Option<LogFormat>,
    /// Write a line of JSON when a session begins and when it ends: who, with which agent, how long, how many bytes; - is
    /// standard output
    #[arg(long, env = "CONVERGE_SESSION_LOG", value_name = "FILE", hide_short_help = true)]
    pub session_log: Option<PathBuf>,
    /// Whether the session log has the addresses of clients and agents
    #[arg(
        long,
        env = "CONVERGE_SESSION_LOG_ADDRESSES",
        hide_short_help = true,
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "true",
        value_name = "BOOL"
    )]
    pub session_log_addresses: Option<bool>,
}

group!(Log, "log", live: [log], restart: [log_format, session_log, session_log_addresses]);

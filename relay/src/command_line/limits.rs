//! `[limits]`: how much, how many, how long.

use super::{
    group::group,
    values::{self, Time},
};
use clap::Args;
use serde::Deserialize;

/// `[limits]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Limits")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// After a signal to stop, let sessions go on for at most this long; a second signal stops at once
    #[arg(
        long,
        env = "CONVERGE_DRAIN_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub drain_timeout: Option<Time>,
}

group!(Limits, "limits", live: [drain_timeout], restart: []);

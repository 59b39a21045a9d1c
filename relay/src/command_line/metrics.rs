//! `[metrics]`: what is counted, and where it can be read.

use super::group::group;
use clap::Args;
use serde::Deserialize;

/// `[metrics]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Metrics")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Metrics {}

group!(Metrics, "metrics", live: [], restart: []);

//! `[access]`: who may use the relay.

use super::group::group;
use clap::Args;
use serde::Deserialize;

/// `[access]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Access")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Access {}

group!(Access, "access", live: [], restart: []);

//! `[pages]`: what people see in a browser.

use super::group::group;
use clap::Args;
use serde::Deserialize;

/// `[pages]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Pages")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pages {}

group!(Pages, "pages", live: [], restart: []);

//! `[pages]`: what people see in a browser.

use super::group::group;
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// `[pages]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Pages")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pages {
    /// A directory of programs that people can download and install from this relay, as `make dist` fills it
    #[arg(long, env = "CONVERGE_DOWNLOADS", value_name = "DIR")]
    pub downloads: Option<PathBuf>,
}

group!(Pages, "pages", live: [], restart: [downloads]);

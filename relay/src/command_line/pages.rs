//! `[pages]`: what people see in a browser.

use super::{group::group, values};
use crate::http::pages::{HiddenField, SessionsPage};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// `[pages]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Pages")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pages {
    /// Programs for people to download from this relay; `make dist` makes them
    #[arg(long, env = "CONVERGE_DOWNLOADS", value_name = "DIR")]
    pub downloads: Option<PathBuf>,
    /// Who may see the page of sessions: public, token (scope sessions-page) or off
    #[arg(
        long,
        env = "CONVERGE_SESSIONS_PAGE",
        value_name = "WHO",
        default_value = "public",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub sessions_page: Option<SessionsPage>,
    /// What the page of sessions leaves out: job, host, os, carrier, clients, bytes, expires, claims
    #[arg(
        long,
        env = "CONVERGE_SESSIONS_HIDE",
        hide_short_help = true,
        value_name = "FIELD",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "values::from_texts")]
    pub sessions_hide: Option<Vec<HiddenField>>,
    /// Show the addresses of agents and clients on the page of sessions
    #[arg(
        long,
        env = "CONVERGE_SESSIONS_SHOW_ADDRESSES",
        hide_short_help = true,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub sessions_show_addresses: Option<bool>,
}

group!(Pages, "pages", live: [], restart: [downloads, sessions_page, sessions_hide, sessions_show_addresses]);

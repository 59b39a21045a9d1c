//! `[tls]`: who the relay is.

use super::group::group;
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// `[tls]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Certificates")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// Certificate chain in PEM; without it a self-signed one is made and its pin is part of the URL
    #[arg(long, env = "CONVERGE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "CONVERGE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where the self-signed certificate is kept
    #[arg(long, env = "CONVERGE_STATE_DIR", value_name = "DIR", default_value = "converge-relay-state")]
    pub state_dir: Option<PathBuf>,
}

group!(Tls, "tls", live: [], restart: [cert, key, state_dir]);

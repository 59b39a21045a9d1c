//! `[tls]`: who the relay is.

use super::{
    group::group,
    values::{self, Time},
};
use crate::tls::acme::{Challenge, LETS_ENCRYPT};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// `[tls]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Certificates")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// Certificate chain in PEM; without it one is made, its pin in the URL
    #[arg(long, env = "CONVERGE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "CONVERGE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where certificates and secrets of the relay's own are kept
    #[arg(
        long,
        env = "CONVERGE_STATE_DIR",
        value_name = "DIR",
        default_value = Tls::DEFAULT_STATE_DIR,
        hide_short_help = true
    )]
    pub state_dir: Option<PathBuf>,
    /// Order certificates for these names, and agree to the authority's terms
    #[arg(long, env = "CONVERGE_ACME_DOMAIN", value_name = "NAME", value_delimiter = ',')]
    pub acme_domain: Option<Vec<String>>,
    /// Whom the authority may write to about it
    #[arg(long, env = "CONVERGE_ACME_EMAIL", value_name = "ADDRESS", hide_short_help = true)]
    pub acme_email: Option<String>,
    /// The directory of the ACME server that issues it
    #[arg(
        long,
        env = "CONVERGE_ACME_DIRECTORY",
        value_name = "URL",
        default_value = LETS_ENCRYPT,
        hide_short_help = true
    )]
    pub acme_directory: Option<String>,
    /// Roots in PEM for the ACME server's own certificate, besides the system's
    #[arg(long, env = "CONVERGE_ACME_CA_FILE", value_name = "FILE", hide_short_help = true)]
    pub acme_ca_file: Option<PathBuf>,
    /// What the ACME server looks at: tls-alpn-01 (TLS on port 443) or http-01 (--http on port 80)
    #[arg(
        long,
        env = "CONVERGE_ACME_CHALLENGE",
        value_name = "CHALLENGE",
        default_value = "tls-alpn-01",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub acme_challenge: Option<Challenge>,
    /// Authorities in PEM whose certificates agents may show; who shows none goes on without
    #[arg(long, env = "CONVERGE_AGENT_CA", value_name = "FILE", hide_short_help = true)]
    pub agent_ca: Option<PathBuf>,
    /// How long browsers insist on TLS for this host, once an authority has issued the certificate; 0s for not at all
    #[arg(
        long,
        env = "CONVERGE_HSTS",
        value_name = "TIME",
        default_value = "180days",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub hsts: Option<Time>,
}

impl Tls {
    /// Where a relay keeps its state that was told nothing.
    pub const DEFAULT_STATE_DIR: &str = "converge-relay-state";
}

group!(Tls, "tls", live: [], restart: [
    cert, key, state_dir, acme_domain, acme_email, acme_directory, acme_ca_file, acme_challenge, agent_ca, hsts,
]);

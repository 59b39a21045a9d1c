//! `[access]`: who may use the relay.

use super::{group::group, values};
use crate::access::{Auth, oidc::OidcEntry, tokens::StaticToken};
use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use std::path::PathBuf;

/// `[access]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Access")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Access {
    /// What agents must show: none or token; needed when others reach it
    #[arg(long, env = "CONVERGE_AGENT_AUTH", value_name = "WHAT")]
    #[serde(deserialize_with = "values::from_text")]
    pub agent_auth: Option<Auth>,
    /// What clients must show: none or token; needed when others reach it
    #[arg(long, env = "CONVERGE_CLIENT_AUTH", value_name = "WHAT")]
    #[serde(deserialize_with = "values::from_text")]
    pub client_auth: Option<Auth>,
    /// What users of the API must show: token, or none
    #[arg(
        long,
        env = "CONVERGE_API_AUTH",
        value_name = "WHAT",
        default_value = "token",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_text")]
    pub api_auth: Option<Auth>,
    /// Take agents only from these networks, such as 10.0.0.0/8
    #[arg(
        long,
        env = "CONVERGE_AGENT_NETWORK",
        value_name = "CIDR",
        value_delimiter = ',',
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_texts")]
    pub agent_network: Option<Vec<IpNet>>,
    /// Take clients only from these networks
    #[arg(
        long,
        env = "CONVERGE_CLIENT_NETWORK",
        value_name = "CIDR",
        value_delimiter = ',',
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_texts")]
    pub client_network: Option<Vec<IpNet>>,
    /// Take users of the API only from these networks
    #[arg(
        long,
        env = "CONVERGE_API_NETWORK",
        value_name = "CIDR",
        value_delimiter = ',',
        hide_short_help = true
    )]
    #[serde(deserialize_with = "values::from_texts")]
    pub api_network: Option<Vec<IpNet>>,
    /// Tokens that are good, as `converge-relay token create` writes them
    #[arg(long, env = "CONVERGE_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// The same in this file.
    #[arg(skip)]
    pub tokens: Option<Vec<StaticToken>>,
    /// CI systems whose tokens are good.
    #[arg(skip)]
    pub oidc: Option<Vec<OidcEntry>>,
}

group!(
    Access,
    "access",
    live: [
        agent_auth,
        client_auth,
        api_auth,
        agent_network,
        client_network,
        api_network,
        tokens_file,
        tokens,
        oidc,
    ],
    restart: [],
    example: "
[[access.tokens]]
# What `converge-relay token create` prints, with this headline.
name = \"nightly\"
sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"
scopes = [\"agent\"]
id-pattern = \"nightly-*\"
expires = \"2027-02-19T14:00:00Z\"

[[access.oidc]]
# Jobs of GitHub Actions, without any secret: whose, and from which branches.
kind = \"github\"
audience = \"https://relay.example\"
claims = { repository_owner = \"octocat\", ref = [\"refs/heads/main\", \"refs/tags/*\"] }
"
);

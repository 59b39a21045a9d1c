//! Where the relay is, and how to get there.

use crate::relay::token::{GitHubTokens, TokenSource, audience};
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use converge_proto::{CarrierChoice, Id, RelayUrl, RelayUrls, rendezvous::Token};
use converge_transport::{ClientCertificate, ProxyChoice};
use std::path::PathBuf;

/// Where the relay is, and how to get there.
#[derive(Args, Debug)]
pub struct RelayArguments {
    /// The relay's URL, as the relay prints it (or as --relay), or several with commas: any will do
    #[arg(value_name = "RELAY", conflicts_with = "relay", required_unless_present = "relay")]
    pub relay_argument: Option<RelayUrls>,
    /// The relay: https:// tries QUIC, then WebSocket; quic://, wss:// and ws:// allow one carrier only
    #[arg(long, env = "CONVERGE_RELAY", value_name = "URL")]
    pub relay: Option<RelayUrls>,
    /// The ID under which people reach this job; the relay makes one up when it is missing or taken
    #[arg(long, env = "CONVERGE_ID", value_name = "ID")]
    pub id: Option<Id>,
    /// Which carrier to use: auto, quic or websocket
    #[arg(
        long,
        env = "CONVERGE_TRANSPORT",
        value_name = "CARRIER",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub transport: Transport,
    /// The proxy for WebSocket: http://, https://, socks5:// or socks5h://, or none [default: HTTPS_PROXY and its kin]
    #[arg(long, env = "CONVERGE_PROXY", value_name = "URL", hide_env_values = true)]
    pub proxy: Option<String>,
    /// Do nothing that the relay's operator asks: end, give more time, show messages
    #[arg(long, env = "CONVERGE_IGNORE_OPERATOR", hide_short_help = true)]
    pub ignore_operator: bool,
    /// What this relay wants to see before it lets a job in; better in CONVERGE_TOKEN or a file, as others can see command
    /// lines [default: on GitHub with `id-token: write` one that GitHub makes, else CONVERGE_ID_TOKEN]
    #[arg(long, env = "CONVERGE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file with the token, read afresh for each registration
    #[arg(long, env = "CONVERGE_TOKEN_FILE", hide_short_help = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A program that prints a token, run by sh for each registration, such as `buildkite-agent oidc request-token
    /// --audience https://relay.example`
    #[arg(long, env = "CONVERGE_TOKEN_COMMAND", hide_short_help = true, value_name = "COMMAND")]
    pub token_command: Option<String>,
    /// Whom the token that GitHub makes is for [default: the relay's URL, of several the first]
    #[arg(long, env = "CONVERGE_OIDC_AUDIENCE", hide_short_help = true, value_name = "TEXT")]
    pub oidc_audience: Option<String>,
    /// Accept any certificate of the relay: SSH stays end-to-end, but anybody in between can take the job's ID
    #[arg(long, env = "CONVERGE_INSECURE")]
    pub insecure: bool,
    /// A certificate to show to a relay that asks for one (PEM); it is read for each connection
    #[arg(long, env = "CONVERGE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, env = "CONVERGE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

/// The name to give GitLab for the token of a job: `id_tokens: { CONVERGE_ID_TOKEN: { aud: RELAY } }`.
const ID_TOKEN_VARIABLE: &str = "CONVERGE_ID_TOKEN";

/// Which carrier to use.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Transport {
    /// QUIC, or WebSocket where UDP is blocked.
    Auto,
    /// QUIC only.
    Quic,
    /// WebSocket only.
    Websocket,
}

impl RelayArguments {
    /// The relays, with the carriers that may be used.
    pub(super) fn urls(&self) -> anyhow::Result<RelayUrls> {
        let Some(relays) = self.relay.as_ref().or(self.relay_argument.as_ref()) else {
            bail!("no relay: give its URL");
        };
        let relays = relays.clone();
        Ok(match self.transport {
            Transport::Auto => relays,
            Transport::Quic => relays.with_carriers(CarrierChoice::Quic),
            Transport::Websocket => relays.with_carriers(CarrierChoice::WebSocket),
        })
    }

    /// Read once already, so that what is wrong with it is known before anything else happens.
    pub(super) fn client_certificate(&self) -> anyhow::Result<Option<ClientCertificate>> {
        let Some((certificate, key)) = self.client_cert.clone().zip(self.client_key.clone()) else {
            return Ok(None);
        };
        let files = ClientCertificate { certificate, key };
        match files.read() {
            Ok(_) => Ok(Some(files)),
            Err(error) => Err(anyhow!("cannot use --client-cert and --client-key: {error}")),
        }
    }

    /// Read here and not by clap, whose error would show what was typed, and that may have a password in it.
    pub(super) fn proxy(&self) -> anyhow::Result<ProxyChoice> {
        ProxyChoice::from_option(self.proxy.as_deref()).context("cannot use --proxy")
    }

    /// What was given first: a token, a file, a program; else what the CI system offers.
    pub(super) fn token_source(&self, relay: &RelayUrl, proxy: &ProxyChoice) -> anyhow::Result<TokenSource> {
        if let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) {
            // Read here and not by clap, whose error would show what was typed.
            return Ok(TokenSource::Given(token.trim().parse().context("cannot use --token")?));
        }
        if let Some(file) = &self.token_file {
            return Ok(TokenSource::File(file.clone()));
        }
        if let Some(command) = &self.token_command {
            return Ok(TokenSource::Command(command.clone()));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(token) = variable(ID_TOKEN_VARIABLE) {
            let token: Token =
                token.trim().parse().with_context(|| format!("cannot use {ID_TOKEN_VARIABLE}"))?;
            return Ok(TokenSource::Given(token));
        }
        let audience = self.oidc_audience.clone().unwrap_or_else(|| audience(relay));
        let github = GitHubTokens::from_variables(variable, audience, proxy.clone());
        Ok(github.map_or(TokenSource::None, TokenSource::GitHub))
    }
}

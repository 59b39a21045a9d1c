//! Where the relay is, and how to get there.

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use converge_proto::{CarrierChoice, Id, RelayUrl};
use converge_transport::{ClientCertificate, ProxyChoice};
use std::path::PathBuf;

/// Where the relay is, and how to get there.
#[derive(Args, Debug)]
pub struct RelayArguments {
    /// The relay's URL, as the relay prints it (or as --relay)
    #[arg(value_name = "RELAY", conflicts_with = "relay", required_unless_present = "relay")]
    pub relay_argument: Option<RelayUrl>,
    /// The relay: https:// tries QUIC, then WebSocket; quic://, wss:// and ws:// allow one carrier only
    #[arg(long, env = "CONVERGE_RELAY", value_name = "URL")]
    pub relay: Option<RelayUrl>,
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
    /// The relay, with the carriers that may be used.
    pub(super) fn url(&self) -> anyhow::Result<RelayUrl> {
        let Some(relay) = self.relay.as_ref().or(self.relay_argument.as_ref()) else {
            bail!("no relay: give its URL");
        };
        let carriers = match self.transport {
            Transport::Auto => relay.carriers(),
            Transport::Quic => CarrierChoice::Quic,
            Transport::Websocket => CarrierChoice::WebSocket,
        };
        Ok(relay.clone().with_carriers(carriers))
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
}

//! `[listen]`: where the relay is.

use super::{group::group, values};
use clap::Args;
use converge_proto::RelayUrl;
use serde::Deserialize;
use std::net::SocketAddr;

/// `[listen]`
#[derive(Args, Debug, Default, Deserialize)]
#[command(next_help_heading = "Addresses")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Listen {
    /// One port for everything: UDP for QUIC, TCP for HTTPS and WebSocket
    #[arg(long, env = "CONVERGE_LISTEN", value_name = "ADDR", default_value = "[::]:4433")]
    pub listen: Option<SocketAddr>,
    /// Also listen for cleartext HTTP, for use behind a balancer that ends TLS
    ///
    /// --public-url is then the balancer's, and no pin is added to it.
    #[arg(long, env = "CONVERGE_HTTP", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// The URL under which people reach this relay, if not its address
    ///
    /// The pin of a certificate that the relay has made for itself is added, unless there is --http or a path, for then
    /// something in front ends TLS. A pin that is written behind it counts.
    #[arg(long, env = "CONVERGE_PUBLIC_URL", value_name = "URL")]
    #[serde(deserialize_with = "values::from_text")]
    pub public_url: Option<RelayUrl>,
}

group!(Listen, "listen", live: [], restart: [listen, http, public_url]);

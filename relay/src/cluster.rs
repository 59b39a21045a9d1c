//! Several relays that act as one: links between them, and what goes over those.
//!
//! Who has which ID is the [registry](crate::registry::etcd)'s. Here is how a client that came to one relay gets to an agent at
//! another: the first relay opens a stream to the second ([`links`]) and passes on what the client says ([`forward`]); the
//! second takes such streams ([`accept`]) and never passes them on itself, so there are no loops and no detours. UDP datagrams of agents
//! and clients that arrive at the wrong relay go to the right one, too ([`packets`]).
//!
//! What is asked of the whole cluster, one relay asks of all others ([`ask`]), and each answers for itself ([`answer`]).

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod forward;
mod links;
pub(crate) mod membership;
mod packets;

pub(crate) use links::{Cluster, Health};

use converge_certs::cluster::ClusterIdentity;
use converge_proto::cluster::CLUSTER_ALPN;
use converge_transport::quic;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

/// How often an idle link says that it is alive, and after which silence the other relay is gone. There are few of these
/// links, and sessions of many people wait for the answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_IDLE: Duration = Duration::from_secs(4);
/// Streams that one relay may have open on one link to another.
const MAX_STREAMS: u32 = 1024;
/// What one stream may have on its way before it is read; as on any link.
const STREAM_WINDOW_BYTES: u32 = quic::STREAM_WINDOW_BYTES;
/// What a link may have sent and not yet acknowledged, over all its streams: a stalled one takes its own share only.
const SEND_WINDOW_BYTES: u64 = MAX_STREAMS as u64 * STREAM_WINDOW_BYTES as u64;
/// Handshakes in progress, and the bytes they may have waiting, in all. Nobody but the other relays has business there.
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER_BYTES: u64 = 1024 * 1024;

/// The endpoint for links between relays, at this address.
pub(crate) fn endpoint(address: SocketAddr, identity: &ClusterIdentity) -> io::Result<Endpoint> {
    let tls = identity.server_config(&[CLUSTER_ALPN]).map_err(io::Error::other)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(transport())
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES);
    let socket = quic::bind(address)?;
    let config = quic::taking_large_packets(EndpointConfig::default())?;
    let mut endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))?;
    let tls = identity.client_config(&[CLUSTER_ALPN]).map_err(io::Error::other)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport());
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        // A stalled stream must not stop the others.
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .max_idle_timeout(IdleTimeout::try_from(MAX_IDLE).ok());
    quic::set_pace(&mut config);
    quic::find_mtu(&mut config, quic::MTU_UPPER_BOUND);
    Arc::new(config)
}

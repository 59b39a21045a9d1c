//! The accepting end.

use super::{
    FIRST_STREAMS, FIRST_WINDOW_BYTES, MTU_UPPER_BOUND, alpn, connection_id::Generator, crossing::Crossing,
    idle_memory::FrugalRuntime, taking_large_packets, transport_config,
};
use aws_lc_rs::{hkdf, hmac};
use converge_certs::Identity;
use quinn::{Endpoint, EndpointConfig, Runtime, VarInt, crypto::rustls::QuicServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// What the kernel is asked for; its own limit may give less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Handshakes in progress, and the bytes they may have waiting, in all.
const MAX_INCOMING: usize = 4096;
const INCOMING_BUFFER_BYTES: u64 = 8 * 1024 * 1024;
/// Resets at most once in this time. After a restart there is one to send to every peer, and each is smaller than what it
/// answers.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// What the connection IDs of an endpoint say.
#[derive(Clone, Debug)]
pub enum ConnectionIds {
    /// Only to itself that they are its own: a relay that is alone.
    Own,
    /// To all relays of a cluster, and to a balancer that knows their format, whose they are; packets for the others are
    /// offered to this crossing's [`Strays`](super::Strays). One crossing serves one endpoint. The identity must have the
    /// cluster's secret, or no relay's reset is believed by the peers of another.
    Cluster(Crossing),
}

/// An endpoint that accepts links on this UDP address, with [its own](ConnectionIds::Own) connection IDs. A peer may have
/// `max_streams` open on one link.
///
/// # Errors
/// When the address cannot be bound, or the identity cannot serve QUIC.
pub fn listen(address: SocketAddr, identity: &Identity, max_streams: u32) -> io::Result<Endpoint> {
    listen_on(bind(address)?, identity, max_streams, &ConnectionIds::Own)
}

/// The same on a socket that is there already, with these connection IDs.
///
/// # Errors
/// When it cannot be used, the identity cannot serve QUIC, or the crossing has an endpoint already.
pub fn listen_on(
    socket: UdpSocket,
    identity: &Identity,
    max_streams: u32,
    ids: &ConnectionIds,
) -> io::Result<Endpoint> {
    let tls = identity.server_config(&alpn()).map_err(io::Error::other)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport_config(max_streams.min(FIRST_STREAMS), MTU_UPPER_BOUND);
    // Grows with its sessions, see `Rooms`: a stranger's streams are not worth more.
    transport.receive_window(VarInt::from_u32(FIRST_WINDOW_BYTES));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES);
    if identity.is_of_cluster() {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
        config.token_key(Arc::new(salt.extract(&identity.derived_secret("quic address validation token"))));
    }
    let endpoint = taking_large_packets(endpoint_config(identity, ids))?;
    let socket = FrugalRuntime.wrap_udp_socket(socket)?;
    let socket = match ids {
        ConnectionIds::Own => socket,
        ConnectionIds::Cluster(crossing) => crossing.socket(socket)?,
    };
    Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, Arc::new(FrugalRuntime))
}

/// Keys that are the same after a restart, so that packets of links from before it are answered by a stateless reset that
/// the peer believes (RFC 9000 section 10.3), and it need not wait for its idle timeout. The generator's key is part of
/// it: what does not look like one of its connection IDs gets no answer at all.
fn endpoint_config(identity: &Identity, ids: &ConnectionIds) -> EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &identity.derived_secret("quic stateless reset"));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.min_reset_interval(MIN_RESET_INTERVAL);
    match ids {
        ConnectionIds::Own => {
            let secret = identity.derived_secret("quic connection id");
            let key = secret.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte));
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
        }
        ConnectionIds::Cluster(crossing) => {
            let (number, cids) = (crossing.number(), crossing.cids().clone());
            config.cid_generator(move || Box::new(Generator::new(cids.clone(), number)));
        }
    }
    config
}

/// A UDP socket of this address, as endpoints like it.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        // One socket for both families where the system allows it; where not, IPv6 alone is better than nothing.
        let _ = socket.set_only_v6(false);
    }
    // Larger buffers ride out bursts; the kernel's limit may refuse, which costs speed only.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

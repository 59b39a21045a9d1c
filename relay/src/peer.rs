//! Who is at the other end of a connection.

use converge_certs::PeerCertificate;
use converge_transport::Carrier;
use std::{net::SocketAddr, sync::Arc};

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As people write it: an IPv4 peer of a socket for both families is an IPv4 peer.
    pub address: SocketAddr,
    /// What the connection is.
    pub carrier: Carrier,
    /// The certificate that it has shown, when TLS ends here and an authority of `--agent-ca` has issued it.
    pub certificate: Option<Arc<PeerCertificate>>,
}

impl Peer {
    /// The peer at `address`.
    pub fn new(address: SocketAddr, carrier: Carrier) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, carrier, certificate: None }
    }
}

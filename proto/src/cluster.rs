//! What relays of one cluster say to each other.
//!
//! On a link between relays each stream begins with [`Forward`] and then has what a client has said to the first of them, from
//! its `Connect` or `Lookup` on. The second one answers as it would answer the client, and never forwards itself.

use crate::rendezvous::messages::Name;
use minicbor::{Decode, Encode};

/// The ALPN protocol between relays. It has its own version: relays of one cluster are upgraded one after the other, so a
/// relay speaks that of the release before it too.
pub const CLUSTER_ALPN: &[u8] = b"converge-cluster/1";

/// Relay → relay, first frame of a stream: whom the rest of the stream comes from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Forward {
    /// The client's address and port, as the first relay sees them.
    #[n(0)]
    pub address: Name,
    /// Whether the client is on WebSocket rather than on QUIC.
    #[n(1)]
    pub is_websocket: bool,
    /// The name of the token that the first relay has let it in by.
    #[n(2)]
    pub token: Option<Name>,
}

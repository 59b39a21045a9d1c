//! From a host's name to its addresses.

use super::{CARRIER_TIMEOUT, RelayMemory, race};
use crate::names;
use converge_proto::RelayUrl;
use std::net::SocketAddr;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

/// The addresses of a name, or the address that it is, in the order in which they are to be tried: never none.
///
/// # Errors
/// What the resolver said, in words.
pub(super) async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    Ok(race::interleaved(all(host, port).await?.into_iter(), MAX_ADDRESSES))
}

/// The same for a relay, which may have several addresses so that they share the load.
///
/// # Errors
/// As [`addresses`].
pub(super) async fn of_relay(relay: &RelayUrl, memory: &RelayMemory) -> Result<Vec<SocketAddr>, String> {
    Ok(memory.addresses(all(&relay.host(), relay.port()).await?, MAX_ADDRESSES))
}

async fn all(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::time::timeout(CARRIER_TIMEOUT, names::lookup(host, port)).await;
    let found = found.map_err(|_| "the name server does not answer".to_owned())?;
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

//! From a host's name to its addresses: everything in Converge that looks a name up does it here.
//!
//! The system's own resolver is asked wherever it can be: it knows what this machine is configured to know, such as
//! names of a VPN or of the local network. A static binary cannot ask it safely, because glibc would load the libraries
//! of whichever system it finds itself on, so such a binary reads the hosts file and asks the name servers itself.

#[cfg(all(target_os = "linux", any(test, target_feature = "crt-static")))]
mod own;

use std::{io, net::SocketAddr};

/// The addresses of `host`, a name or an address without brackets, each with `port`, in the order in which they are to
/// be tried. They may be none. Takes as long as name servers take: set a limit. Cancel-safe.
///
/// # Errors
/// Why there is no answer, in words for people.
#[cfg(not(all(target_os = "linux", target_feature = "crt-static")))]
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// The addresses of `host`, a name or an address without brackets, each with `port`, in the order in which they are to
/// be tried. They may be none. Takes as long as name servers take: set a limit. Cancel-safe.
///
/// # Errors
/// Why there is no answer, in words for people.
#[cfg(all(target_os = "linux", target_feature = "crt-static"))]
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    own::lookup(host, port).await
}

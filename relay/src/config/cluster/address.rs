//! Where a relay is for the others.

use std::{fmt, net::SocketAddr, str::FromStr};
use url::Host;

/// `HOST:PORT`, with brackets around IPv6 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAddress {
    host: Host,
    port: u16,
}

/// Of an address that was bound.
impl From<SocketAddr> for ClusterAddress {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(address) => Host::Ipv4(*address.ip()),
            SocketAddr::V6(address) => Host::Ipv6(*address.ip()),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for ClusterAddress {
    type Err = InvalidClusterAddress;

    fn from_str(text: &str) -> Result<Self, InvalidClusterAddress> {
        // As long as names are in the DNS, and a port.
        if text.len() > 253 + ":65535".len() {
            return Err(InvalidClusterAddress::Form);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidClusterAddress::Form)?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number).ok_or(InvalidClusterAddress::Form)?;
        let host = Host::parse(host).map_err(|_| InvalidClusterAddress::Form)?;
        let is_unspecified = match &host {
            Host::Domain(_) => false,
            Host::Ipv4(address) => address.is_unspecified(),
            Host::Ipv6(address) => address.is_unspecified(),
        };
        if port == 0 || is_unspecified {
            return Err(InvalidClusterAddress::Unreachable);
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a text is not where a relay can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClusterAddress {
    /// Not of this form.
    #[error("it is HOST:PORT, with brackets around an IPv6 address")]
    Form,
    /// Port 0, or the address of all interfaces.
    #[error("nobody can be reached at port 0, or at the address of all interfaces")]
    Unreachable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_ports_and_addresses_have_brackets() {
        for text in ["relay-1.internal:4434", "192.0.2.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<ClusterAddress>().unwrap().to_string(), text);
        }
        for text in ["", "host", ":1", "host:", "host:x", "host:+1", "host:65536", "2001:db8::1:1", "a b:1"] {
            assert_eq!(text.parse::<ClusterAddress>(), Err(InvalidClusterAddress::Form), "{text:?}");
        }
        let long = format!("{}:1", "a.".repeat(200));
        assert_eq!(long.parse::<ClusterAddress>(), Err(InvalidClusterAddress::Form));
        for text in ["host:0", "0.0.0.0:1", "[::]:1"] {
            assert_eq!(text.parse::<ClusterAddress>(), Err(InvalidClusterAddress::Unreachable), "{text:?}");
        }
    }

    #[test]
    fn bound_addresses_are_written_as_typed_ones() {
        for text in ["127.0.0.1:7", "[::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(ClusterAddress::from(address), text.parse().unwrap());
        }
    }
}

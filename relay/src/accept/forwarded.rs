//! For whom a trusted proxy makes a request, as it says in a header.

use crate::limits::{AddressHeader, Proxies};
use http::{HeaderMap, HeaderName, header};
use std::net::{IpAddr, SocketAddr};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies that are looked through; what lies further back is not believed.
const MAX_PROXIES: usize = 16;

/// The address that the nearest trusted proxy speaks for: from the right, the first that is not a trusted proxy's own.
/// What is left of it anybody may have written. `None` when there is none.
pub(crate) fn peer(headers: &HeaderMap, proxies: &Proxies) -> Option<IpAddr> {
    let name = match proxies.header {
        AddressHeader::XForwardedFor => &X_FORWARDED_FOR,
        AddressHeader::Forwarded => &header::FORWARDED,
    };
    let values = headers.get_all(name).iter().rev();
    let hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    let mut nearest = None;
    for hop in hops.take(MAX_PROXIES) {
        let node = match proxies.header {
            AddressHeader::XForwardedFor => Some(hop),
            AddressHeader::Forwarded => forwarded_for(hop),
        };
        // A name instead of an address, or nonsense: whoever wrote it, what is behind it is not known.
        let Some(address) = node.and_then(address) else { break };
        nearest = Some(address);
        if !proxies.are_at(address) {
            break;
        }
    }
    nearest
}

/// `for` of one element of `Forwarded` (RFC 7239 section 4). A semicolon inside quotes does not occur in addresses.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer_of(header: AddressHeader, values: &[&'static str]) -> Option<String> {
        let name = match header {
            AddressHeader::XForwardedFor => X_FORWARDED_FOR.clone(),
            AddressHeader::Forwarded => header::FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), http::HeaderValue::from_static(value));
        }
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let proxies = Proxies { trusted, header, ..Proxies::default() };
        peer(&headers, &proxies).map(|address| address.to_string())
    }

    #[test]
    fn rightmost_address_that_is_no_proxys_is_the_peer() {
        let peer = |values: &[&'static str]| peer_of(AddressHeader::XForwardedFor, values);
        assert_eq!(peer(&["192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(peer(&["6.6.6.6, 192.0.2.1"]).as_deref(), Some("192.0.2.1"), "forged");
        assert_eq!(peer(&["6.6.6.6, 192.0.2.1,10.1.2.3"]).as_deref(), Some("192.0.2.1"), "two proxies");
        assert_eq!(peer(&["6.6.6.6", "192.0.2.1", "10.1.2.3"]).as_deref(), Some("192.0.2.1"), "three lines");
        assert_eq!(peer(&["192.0.2.1, unknown, 10.1.2.3"]).as_deref(), Some("10.1.2.3"));
        assert_eq!(peer(&["192.0.2.1:4711"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(peer(&["2a00::1"]).as_deref(), Some("2a00::1"));
        assert_eq!(peer(&["[2a00::1]:80"]).as_deref(), Some("2a00::1"));
        assert_eq!(peer(&["10.0.0.1"]).as_deref(), Some("10.0.0.1"), "a proxy of its own");
        assert_eq!(peer(&["nonsense"]), None);
        assert_eq!(peer(&[]), None);
    }

    #[test]
    fn forwarded_is_understood_where_it_is_said() {
        let peer = |values: &[&'static str]| peer_of(AddressHeader::Forwarded, values);
        assert_eq!(peer(&["for=192.0.2.1;proto=https;by=10.0.0.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(peer(&["for=6.6.6.6, For=\"[2a00::1]:4711\""]).as_deref(), Some("2a00::1"));
        assert_eq!(peer(&["for=192.0.2.1, for=10.0.0.9"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(peer(&["for=192.0.2.1, for=_hidden"]), None);
        assert_eq!(peer(&["192.0.2.1"]), None);
    }
}

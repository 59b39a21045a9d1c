//! `NO_PROXY`: which hosts are reached without a proxy.

use ipnet::IpNet;
use std::net::IpAddr;

/// A list of hosts, as `NO_PROXY` has it, separated by commas or white space:
///
/// | entry | what it names |
/// | --- | --- |
/// | `*` | every host |
/// | `example.com`, `.example.com`, `*.example.com` | that name and all below it |
/// | `192.0.2.7`, `::1` | that address |
/// | `10.0.0.0/8`, `fd00::/8` | every address in it |
///
/// Names and addresses may have a `:port` behind them (an IPv6 address is then in brackets), and name that port alone.
/// Addresses are compared with the host as it was typed; no name is resolved for it. What makes no sense names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpNet),
    /// In lower case, without a dot at either end.
    Domain(String),
}

impl NoProxy {
    /// More than any list comes near; the rest names nothing.
    const MAX_ENTRIES: usize = 1024;

    /// Reads a list. There is no wrong one.
    pub fn parse(text: &str) -> Self {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        Self { entries: words.take(Self::MAX_ENTRIES).filter_map(Entry::parse).collect() }
    }

    /// Whether this host, a name or an address without brackets, is on the list.
    pub fn names(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        self.entries.iter().filter(|entry| entry.port.is_none_or(|only| only == port)).any(|entry| {
            match (&entry.hosts, address) {
                (Hosts::All, _) => true,
                (Hosts::Network(network), Some(address)) => network.contains(&address),
                (Hosts::Domain(domain), None) => host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|below| below.is_empty() || below.ends_with('.')),
                (Hosts::Network(_), None) | (Hosts::Domain(_), Some(_)) => false,
            }
        })
    }
}

impl Entry {
    fn parse(word: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::parse(word) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = word.rsplit_once(':')?;
        Some(Self { hosts: Hosts::parse(host)?, port: Some(port.parse().ok()?) })
    }
}

impl Hosts {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::All);
        }
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        if let Ok(network) = bare.parse::<IpNet>() {
            return Some(Self::Network(network));
        }
        let domain = word.strip_prefix('*').unwrap_or(word).trim_matches('.').to_ascii_lowercase();
        let is_name = !domain.is_empty() && !domain.contains([':', '/', '[', ']', '*', '@']);
        is_name.then_some(Self::Domain(domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_on_the_list_or_not() {
        for (list, host, port, named) in [
            ("", "relay.example", 443, false),
            ("*", "relay.example", 443, true),
            ("*", "::1", 443, true),
            ("a.example, *", "relay.example", 443, true),
            // Names, with everything below them.
            ("relay.example", "relay.example", 443, true),
            ("relay.example", "eu.relay.example", 443, true),
            ("relay.example", "my-relay.example", 443, false),
            ("relay.example", "example", 443, false),
            (".example", "relay.example", 443, true),
            (".relay.example", "relay.example", 443, true),
            ("*.example", "relay.example", 443, true),
            ("*.example", "example.com", 443, false),
            ("RELAY.Example", "relay.eXample", 443, true),
            ("relay.example.", "relay.example", 443, true),
            ("relay.example", "relay.example.", 443, true),
            ("localhost", "localhost", 443, true),
            // Addresses and networks.
            ("127.0.0.1", "127.0.0.1", 443, true),
            ("127.0.0.1", "127.0.0.11", 443, false),
            ("10.0.0.0/8", "10.200.3.4", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.1.2.3/8", "10.9.9.9", 443, true),
            ("10.0.0.0/8", "10.relay.example", 443, false),
            ("::1", "::1", 443, true),
            ("[::1]", "::1", 443, true),
            ("fd00::/8", "fd12::7", 443, true),
            ("fd00::/8", "2001:db8::7", 443, false),
            ("0.0.0.0/0", "::1", 443, false),
            ("1", "10.0.0.1", 443, false),
            // Ports.
            ("relay.example:4433", "relay.example", 4433, true),
            ("relay.example:4433", "relay.example", 443, false),
            (".example:4433", "relay.example", 4433, true),
            ("127.0.0.1:80", "127.0.0.1", 80, true),
            ("127.0.0.1:80", "127.0.0.1", 443, false),
            ("[::1]:80", "::1", 80, true),
            ("[::1]:80", "::1", 443, false),
            ("*:443", "relay.example", 443, true),
            ("*:443", "relay.example", 80, false),
            // Lists.
            ("a.example,relay.example", "relay.example", 443, true),
            (" a.example ,\trelay.example ", "relay.example", 443, true),
            ("a.example relay.example", "relay.example", 443, true),
            // What makes no sense.
            (",,", "relay.example", 443, false),
            (".", "relay.example", 443, false),
            ("https://relay.example", "relay.example", 443, false),
            ("relay.example:https", "relay.example", 443, false),
            ("relay.example:99999", "relay.example", 443, false),
            ("10.0.0.0/99", "10.0.0.1", 443, false),
        ] {
            assert_eq!(NoProxy::parse(list).names(host, port), named, "{list:?} {host} {port}");
        }
    }

    #[test]
    fn endless_list_is_cut() {
        let mut list = "a.example,".repeat(NoProxy::MAX_ENTRIES - 1);
        list += "last.example,beyond.example";
        let list = NoProxy::parse(&list);
        assert!(list.names("last.example", 443));
        assert!(!list.names("beyond.example", 443));
    }
}

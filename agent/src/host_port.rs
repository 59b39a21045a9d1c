//! Hosts with ports, as they are allowed: in `permitopen=` and `permitlisten=` of key files, and in `--allow-forward`.

use std::net::IpAddr;

/// A host pattern and a port, where `*` stands for any port.
///
/// Hosts are compared as they were written, without looking them up: `localhost` is not `127.0.0.1`. Case does not
/// matter, nor how an IP address is spelled. In patterns `*` stands for any characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Any,
    Only(u16),
}

impl HostPort {
    /// Reads `HOST:PORT`; IPv6 addresses stand in brackets. `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inside) => inside?,
            None if host.contains(':') => return None,
            None => host,
        };
        let printable =
            host.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'[' | b']' | b'/'));
        (printable && !host.is_empty()).then_some(())?;
        Some(Self { host: host.to_owned(), port: Port::parse(port)? })
    }

    /// Reads `PORT` as well, which is that port with any host.
    pub fn parse_bare_port(text: &str) -> Option<Self> {
        if text.contains(':') {
            return Self::parse(text);
        }
        Some(Self { host: "*".to_owned(), port: Port::parse(text)? })
    }

    /// Whether the host is one, or any, and not a pattern for some.
    pub fn is_literal_or_any(&self) -> bool {
        self.host == "*" || !self.host.contains(['*', '?'])
    }

    /// Whether this host and port are meant.
    pub fn matches(&self, host: &str, port: u32) -> bool {
        let port_matches = match self.port {
            Port::Any => true,
            Port::Only(own) => u32::from(own) == port,
        };
        port_matches && self.matches_host(host)
    }

    fn matches_host(&self, host: &str) -> bool {
        if let (Ok(own), Ok(other)) = (self.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            return own == other;
        }
        matches_pattern(self.host.as_bytes(), host.as_bytes())
    }
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            // Rust would take a plus sign, too.
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|port| *port > 0).map(Self::Only)
            }
            _ => None,
        }
    }
}

/// Walks both once; after a mismatch the last `*` takes one more character.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut retry = None;
    while let Some(&character) = text.get(position) {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, position));
                at += 1;
            }
            Some(&own) if own == b'?' || own.eq_ignore_ascii_case(&character) => {
                at += 1;
                position += 1;
            }
            _ => {
                let Some((behind_star, taken)) = retry else { return false };
                retry = Some((behind_star, taken + 1));
                (at, position) = (behind_star, taken + 1);
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, host: &str, port: u32) -> bool {
        HostPort::parse(pattern).expect(pattern).matches(host, port)
    }

    #[test]
    fn hosts_are_compared_as_written_and_addresses_by_value() {
        assert!(allows("db:5432", "DB", 5432) && !allows("db:5432", "db", 5433));
        assert!(!allows("db:5432", "db.internal", 5432) && !allows("localhost:1", "127.0.0.1", 1));
        assert!(allows("[::1]:22", "0:0::1", 22) && !allows("[::1]:22", "::2", 22));
        assert!(allows("db:*", "db", 65535) && allows("*:80", "::1", 80) && allows("*:*", "", 0));
    }

    #[test]
    fn patterns_have_stars_and_question_marks() {
        assert!(allows("*.internal:443", "a.b.Internal", 443) && !allows("*.internal:443", "internal", 443));
        assert!(allows("db-?:1", "db-7", 1) && !allows("db-?:1", "db-77", 1) && !allows("db-?:1", "db-", 1));
        assert!(allows("a*b*c:1", "aXbXbc", 1) && !allows("a*b*c:1", "aXbXb", 1));
    }

    #[test]
    fn what_is_no_host_with_a_port_is_refused() {
        for text in
            ["", ":", "db", "db:", ":80", "db:0", "db:65536", "db:+1", "::1:22", "[::1:22", "a b:1", "db:x"]
        {
            assert_eq!(HostPort::parse(text), None, "{text}");
        }
        assert_eq!(HostPort::parse_bare_port("8080"), HostPort::parse("*:8080"));
        assert_eq!(HostPort::parse_bare_port("*"), HostPort::parse("*:*"));
        assert_eq!(HostPort::parse_bare_port("localhost"), None);
    }
}

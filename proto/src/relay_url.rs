//! Where a relay is, which carriers may be used to reach it, and the certificate it must show.

use data_encoding::BASE64URL_NOPAD;
use std::{fmt, str::FromStr};
use url::{Host, Url};

/// A relay's URL, such as `https://relay.example:4433/sub/path#pin-sha256=…`.
///
/// `https` leaves the choice of the carrier to us; `quic`, `wss` and `ws` name one.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayUrl {
    carriers: CarrierChoice,
    tls: bool,
    host: Host,
    port: u16,
    /// Without slashes at its ends; empty at the root.
    path: String,
    pin: Option<CertificatePin>,
}

/// Which carriers may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierChoice {
    /// QUIC first, WebSocket when QUIC does not answer.
    Auto,
    /// QUIC only.
    Quic,
    /// WebSocket only.
    WebSocket,
}

impl RelayUrl {
    /// URLs longer than this, as typed or with every character escaped that must be, are refused.
    pub const MAX_BYTES: usize = 1024;

    /// Which carriers the scheme allows.
    pub fn carriers(&self) -> CarrierChoice {
        self.carriers
    }

    /// The same relay with another choice of carriers. A cleartext (`ws://`) relay has no QUIC, so it keeps
    /// WebSocket.
    #[must_use]
    pub fn with_carriers(mut self, carriers: CarrierChoice) -> Self {
        if self.tls {
            self.carriers = carriers;
        }
        self
    }

    /// Whether TLS is spoken: on all schemes but `ws`.
    pub fn has_tls(&self) -> bool {
        self.tls
    }

    /// Name or address, without brackets around IPv6.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The port, for UDP and TCP alike: 443 by default, 80 for `ws`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around IPv6 and without a default port, as in an HTTP `Host` header.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether both are the same relay: reached by TLS or not, at the same host, port and path. Carriers and pins are how
    /// one gets there.
    pub fn is_same_relay(&self, other: &Self) -> bool {
        self.is_same_host(other) && self.path == other.path
    }

    /// Whether both are of the same host and port, both with TLS or both without.
    pub fn is_same_host(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// The certificate the relay must show, when the URL names one.
    pub fn pin(&self) -> Option<CertificatePin> {
        self.pin
    }

    /// The same URL with this pin.
    #[must_use]
    pub fn with_pin(mut self, pin: Option<CertificatePin>) -> Self {
        self.pin = pin;
        self
    }

    /// The absolute path of `tail` on this relay: `/sub/path/` and `tail`.
    pub fn path(&self, tail: &str) -> String {
        if self.path.is_empty() { format!("/{tail}") } else { format!("/{}/{tail}", self.path) }
    }

    /// The URL of `tail` on this relay with a scheme of the caller's choice (`https`, `wss`, …) and no pin.
    pub fn with_scheme(&self, scheme: &str, tail: &str) -> String {
        format!("{scheme}://{}{}", self.authority(), self.path(tail))
    }

    /// The scheme of pages on this relay.
    pub fn http_scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The scheme of WebSockets on this relay.
    pub fn websocket_scheme(&self) -> &'static str {
        if self.tls { "wss" } else { "ws" }
    }

    /// The scheme as typed.
    pub(crate) fn scheme(&self) -> &'static str {
        match (self.carriers, self.tls) {
            (CarrierChoice::Auto, true) => "https",
            (CarrierChoice::Quic, _) => "quic",
            (_, true) => "wss",
            (_, false) => "ws",
        }
    }

    /// Reads a URL that also says something behind the relay's own path; returns that path whole.
    pub(crate) fn parse_with_path(text: &str) -> Result<(Self, String), InvalidRelayUrl> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidRelayUrl::TooLong);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(InvalidRelayUrl::NoScheme) };
        let (carriers, tls) = match scheme {
            "https" => (CarrierChoice::Auto, true),
            "quic" => (CarrierChoice::Quic, true),
            "wss" => (CarrierChoice::WebSocket, true),
            "ws" => (CarrierChoice::WebSocket, false),
            other => return Err(InvalidRelayUrl::Scheme(other.chars().take(32).collect())),
        };
        // `quic` is not a scheme with a host for the URL standard; the grammar behind it is that of https.
        let url = Url::parse(&format!("{}://{rest}", if tls { "https" } else { "http" }))
            .map_err(InvalidRelayUrl::Url)?;
        // Escaping can treble the length, and what we print must be readable again.
        if url.as_str().len() > Self::MAX_BYTES {
            return Err(InvalidRelayUrl::TooLong);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidRelayUrl::UserInfo);
        }
        if url.query().is_some() {
            return Err(InvalidRelayUrl::Query);
        }
        let Some(host) = url.host() else { return Err(InvalidRelayUrl::NoHost) };
        let pin = match url.fragment() {
            None | Some("") => None,
            Some(fragment) => Some(fragment.parse()?),
        };
        if pin.is_some() && !tls {
            return Err(InvalidRelayUrl::PinWithoutTls);
        }
        let path = url.path().trim_matches('/').to_owned();
        let port = url.port_or_known_default().unwrap_or(default_port(tls));
        let relay = Self { carriers, tls, host: host.to_owned(), port, path: String::new(), pin };
        Ok((relay, path))
    }

    pub(crate) fn with_path(mut self, path: &str) -> Self {
        path.trim_matches('/').clone_into(&mut self.path);
        self
    }
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for RelayUrl {
    type Err = InvalidRelayUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRelayUrl> {
        let (relay, path) = Self::parse_with_path(text)?;
        Ok(relay.with_path(&path))
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

impl fmt::Debug for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo`, written `pin-sha256=` and base64url without padding
/// (the idea of [RFC 7469]).
///
/// [RFC 7469]: https://www.rfc-editor.org/rfc/rfc7469#section-2.4
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificatePin(pub [u8; 32]);

impl CertificatePin {
    const PREFIX: &str = "pin-sha256=";
}

impl FromStr for CertificatePin {
    type Err = InvalidRelayUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRelayUrl> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidRelayUrl::Fragment)?;
        let bytes = BASE64URL_NOPAD.decode(digits.as_bytes()).map_err(|_| InvalidRelayUrl::Pin)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidRelayUrl::Pin)?))
    }
}

impl fmt::Display for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a relay's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRelayUrl {
    /// Over [`RelayUrl::MAX_BYTES`].
    #[error("a relay URL has at most {} characters", RelayUrl::MAX_BYTES)]
    TooLong,
    /// No `://`.
    #[error("a relay URL starts with https://, quic://, wss:// or ws://")]
    NoScheme,
    /// A scheme that names no carrier.
    #[error("the scheme {0}:// is not one of https, quic, wss and ws")]
    Scheme(String),
    /// The standard's parser refused it.
    #[error("not a URL: {0}")]
    Url(url::ParseError),
    /// No host.
    #[error("a relay URL names a host")]
    NoHost,
    /// `user:password@`.
    #[error("a relay URL has no user name or password")]
    UserInfo,
    /// `?…`.
    #[error("a relay URL has no query")]
    Query,
    /// A fragment that is not a pin.
    #[error("behind '#' only pin-sha256=… is allowed")]
    Fragment,
    /// A pin that is not 32 bytes of base64url.
    #[error("pin-sha256 is followed by 43 characters of base64url")]
    Pin,
    /// A pin on `ws://`.
    #[error("ws:// has no TLS, so there is no certificate to pin")]
    PinWithoutTls,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_read() {
        let pin = CertificatePin([0xa5; 32]);
        for text in [
            "https://relay.example",
            "https://relay.example:4433/sub/path",
            "quic://[::1]:4433",
            "wss://10.0.0.1",
            "ws://localhost:8080",
            &format!("https://127.0.0.1:4433#{pin}"),
        ] {
            assert_eq!(text.parse::<RelayUrl>().unwrap().to_string(), text);
        }
        let with_slash: RelayUrl = "https://relay.example:443/".parse().unwrap();
        assert_eq!(with_slash.to_string(), "https://relay.example");
        assert_eq!(with_slash.path("client/a"), "/client/a");
    }

    #[test]
    fn scheme_decides_carrier_tls_and_port() {
        let parsed = |text: &str| text.parse::<RelayUrl>().unwrap();
        assert_eq!((parsed("https://a").carriers(), parsed("https://a").port()), (CarrierChoice::Auto, 443));
        assert_eq!((parsed("quic://a").carriers(), parsed("quic://a").port()), (CarrierChoice::Quic, 443));
        assert_eq!((parsed("wss://a").carriers(), parsed("wss://a").port()), (CarrierChoice::WebSocket, 443));
        assert_eq!((parsed("ws://a").has_tls(), parsed("ws://a").port()), (false, 80));
        assert_eq!(parsed("ws://a").with_carriers(CarrierChoice::Quic).carriers(), CarrierChoice::WebSocket);
        assert_eq!(parsed("https://a").with_carriers(CarrierChoice::Quic).to_string(), "quic://a");
        assert_eq!(parsed("ws://a/b").with_scheme("http", "client/x"), "http://a/b/client/x");
    }

    #[test]
    fn wrong_urls_are_refused_in_words() {
        let error = |text: &str| text.parse::<RelayUrl>().unwrap_err();
        assert_eq!(error("relay.example"), InvalidRelayUrl::NoScheme);
        assert_eq!(error("http://relay"), InvalidRelayUrl::Scheme("http".into()));
        assert_eq!(error("https://u:p@relay"), InvalidRelayUrl::UserInfo);
        assert_eq!(error("https://relay?x"), InvalidRelayUrl::Query);
        assert_eq!(error("https://relay#x"), InvalidRelayUrl::Fragment);
        assert_eq!(error("https://relay#pin-sha256=AAAA"), InvalidRelayUrl::Pin);
        assert_eq!(error(&format!("ws://relay#{}", CertificatePin([0; 32]))), InvalidRelayUrl::PinWithoutTls);
        assert_eq!(error(&format!("https://{}", "a".repeat(2000))), InvalidRelayUrl::TooLong);
        assert_eq!(error(&format!("https://relay/{}", "\u{fc}".repeat(500))), InvalidRelayUrl::TooLong);
        assert!(matches!(error("https://"), InvalidRelayUrl::Url(_)));
    }
}

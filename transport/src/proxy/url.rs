//! A proxy's URL.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{fmt, str::FromStr};
use url::{Host, Url};

/// Where a proxy is, how to speak to it, and as whom: `http://user:password@proxy.example:3128`.
///
/// User name and password are percent-encoded in a URL. Neither `Display` nor `Debug` shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    scheme: ProxyScheme,
    host: Host,
    port: u16,
    credentials: Option<Credentials>,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP CONNECT ([RFC 9110 section 9.3.6](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6)).
    Http,
    /// HTTP CONNECT inside TLS.
    Https,
    /// SOCKS 5 ([RFC 1928](https://www.rfc-editor.org/rfc/rfc1928)); the relay's name is resolved here if it can be.
    Socks5,
    /// SOCKS 5; the relay's name is resolved at the proxy.
    Socks5h,
}

impl ProxyScheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Socks5, Self::Socks5h];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

/// As whom a proxy is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name; at most 255 bytes, without `:`.
    pub user: String,
    /// The password; at most 255 bytes.
    pub password: String,
}

impl Credentials {
    /// What a SOCKS proxy can be told (RFC 1929).
    const MAX_BYTES: usize = 255;

    fn of(url: &Url) -> Result<Option<Self>, InvalidProxyUrl> {
        if url.username().is_empty() && url.password().is_none() {
            return Ok(None);
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| InvalidProxyUrl::Credentials)?;
            if text.len() > Self::MAX_BYTES || text.chars().any(char::is_control) {
                return Err(InvalidProxyUrl::Credentials);
            }
            Ok(text.into_owned())
        };
        let user = decoded(url.username())?;
        if user.contains(':') {
            return Err(InvalidProxyUrl::Credentials);
        }
        Ok(Some(Self { user, password: decoded(url.password().unwrap_or_default())? }))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl ProxyUrl {
    /// Longer URLs are refused.
    pub const MAX_BYTES: usize = 2048;

    /// How the proxy is spoken to.
    pub fn scheme(&self) -> ProxyScheme {
        self.scheme
    }

    /// Name or address, without brackets around IPv6.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The TCP port: 80 by default for `http`, 443 for `https`, 1080 for SOCKS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User name and password, when the URL has them.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The URL with its password, for the environment of a child process: never for a log or a command line.
    pub fn with_password_exposed(&self) -> String {
        let user = self.credentials.as_ref().map(|Credentials { user, password }| {
            let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            format!("{}:{}@", encoded(user), encoded(password))
        });
        format!("{}://{}{}:{}", self.scheme.name(), user.unwrap_or_default(), self.host, self.port)
    }
}

impl FromStr for ProxyUrl {
    type Err = InvalidProxyUrl;

    /// Without a scheme it is an `http` proxy, as everywhere.
    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        let text = text.trim();
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidProxyUrl::TooLong);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = ProxyScheme::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or(InvalidProxyUrl::Scheme)?;
        // Under a scheme that the URL standard gives no default port, a port that was typed is a port that is read.
        let url = Url::parse(&format!("socks5://{rest}")).map_err(InvalidProxyUrl::Url)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidProxyUrl::BehindHost);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidProxyUrl::NoHost)?;
        Ok(Self {
            scheme,
            host: Host::parse(host).map_err(InvalidProxyUrl::Url)?,
            port: url.port().unwrap_or(scheme.default_port()),
            credentials: Credentials::of(&url)?,
        })
    }
}

/// Without user name and password.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a proxy's URL. None of this repeats the text, in which there may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxyUrl {
    /// Over [`ProxyUrl::MAX_BYTES`].
    #[error("a proxy URL has at most {} characters", ProxyUrl::MAX_BYTES)]
    TooLong,
    /// A kind of proxy that is not known.
    #[error("a proxy URL starts with http://, https://, socks5:// or socks5h://")]
    Scheme,
    /// The standard's parser refused it.
    #[error("not a URL of a proxy: {0}")]
    Url(url::ParseError),
    /// No host.
    #[error("a proxy URL names a host")]
    NoHost,
    /// A path, query or fragment.
    #[error(
        "behind a proxy's host and port there is nothing more; write / ? # and @ in a password as %2F %3F %23 %40"
    )]
    BehindHost,
    /// Too long, a control character, or `:` in the user name.
    #[error(
        "user name and password of a proxy have at most 255 bytes each, none of them a control character"
    )]
    Credentials,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_their_defaults() {
        for (text, shown) in [
            ("http://proxy", "http://proxy:80"),
            ("http://proxy.example:3128/", "http://proxy.example:3128"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
            (" HTTP://proxy:8080\n", "http://proxy:8080"),
            ("https://proxy", "https://proxy:443"),
            ("https://proxy:80", "https://proxy:80"),
            ("socks5://proxy", "socks5://proxy:1080"),
            ("socks5://proxy:80", "socks5://proxy:80"),
            ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
            ("http://user:secret@proxy:3128", "http://proxy:3128"),
            ("user:secret@proxy:3128", "http://proxy:3128"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(proxy.to_string(), shown, "{text}");
        }
        assert_eq!("socks5h://[::1]".parse::<ProxyUrl>().unwrap().host(), "::1");
    }

    #[test]
    fn credentials_are_decoded() {
        for (text, user, password) in [
            ("http://user:pass@proxy", "user", "pass"),
            ("http://user@proxy", "user", ""),
            ("http://:token@proxy", "", "token"),
            ("http://d%5Cuser:p%40ss%2F%23%3A@proxy", "d\\user", "p@ss/#:"),
            ("socks5://\u{fc}:%C3%BC@proxy", "\u{fc}", "\u{fc}"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap();
            let credentials = proxy.credentials().unwrap();
            assert_eq!(
                (credentials.user.as_str(), credentials.password.as_str()),
                (user, password),
                "{text}"
            );
            let again: ProxyUrl = proxy.with_password_exposed().parse().unwrap();
            assert_eq!(again, proxy, "{text}");
        }
        assert_eq!("http://proxy".parse::<ProxyUrl>().unwrap().credentials(), None);
    }

    #[test]
    fn wrong_urls_are_refused() {
        let long = format!("http://{}", "a".repeat(ProxyUrl::MAX_BYTES));
        let long_password = format!("http://u:{}@proxy", "p".repeat(256));
        for (text, error) in [
            ("ftp://proxy", InvalidProxyUrl::Scheme),
            ("socks4://proxy", InvalidProxyUrl::Scheme),
            ("://proxy", InvalidProxyUrl::Scheme),
            ("", InvalidProxyUrl::NoHost),
            ("http://", InvalidProxyUrl::NoHost),
            ("http://proxy/path", InvalidProxyUrl::BehindHost),
            ("http://proxy?x", InvalidProxyUrl::BehindHost),
            ("http://user:pass#word@proxy", InvalidProxyUrl::Url(url::ParseError::InvalidPort)),
            ("http://u:%0D%0A@proxy", InvalidProxyUrl::Credentials),
            ("http://u%3Av:p@proxy", InvalidProxyUrl::Credentials),
            ("http://u:%FF@proxy", InvalidProxyUrl::Credentials),
            ("http://proxy:99999", InvalidProxyUrl::Url(url::ParseError::InvalidPort)),
            (&long, InvalidProxyUrl::TooLong),
            (&long_password, InvalidProxyUrl::Credentials),
        ] {
            assert_eq!(text.parse::<ProxyUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn password_of_the_longest_allowed_length_is_read() {
        let text = format!("http://u:{}@proxy", "p".repeat(255));
        assert!(text.parse::<ProxyUrl>().is_ok());
    }

    #[test]
    fn password_is_never_shown() {
        let proxy: ProxyUrl = "http://alice:hunter2@proxy:3128".parse().unwrap();
        let choice = crate::proxy::ProxyChoice::Always(proxy.clone());
        let options = crate::DialOptions { proxy: choice, ..Default::default() };
        for shown in [
            proxy.to_string(),
            format!("{proxy:?}"),
            format!("{:?}", proxy.credentials()),
            format!("{options:?}"),
        ] {
            assert!(!shown.contains("hunter2") && !shown.contains("alice"), "{shown}");
        }
        for wrong in
            ["http://alice:hunter2@proxy/path", "gopher://alice:hunter2@proxy", "http://alice:hunter2@"]
        {
            let error = wrong.parse::<ProxyUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}

//! Where certificates are ordered, and for what.

use std::{fmt, net::IpAddr, path::PathBuf};
use url::Url;

/// The directory of Let's Encrypt's production server.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Let's Encrypt takes as many in one certificate.
const MAX_DOMAINS: usize = 100;

/// What is ordered where. Checked before it gets here: see [`check`](Self::check).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The host names of the certificate.
    pub domains: Vec<String>,
    /// Whom the authority may write to, if anybody.
    pub email: Option<String>,
    /// The URL of the server's directory.
    pub directory: String,
    /// Roots that the server's own certificate may lead to besides the system's, in a PEM file.
    pub ca_file: Option<PathBuf>,
    /// How the server finds out that the domains lead here.
    pub challenge: Challenge,
    /// The relay's state directory.
    pub state_dir: PathBuf,
}

/// How an ACME server finds out that a domain leads here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// A handshake with TLS-ALPN on port 443.
    #[default]
    TlsAlpn01,
    /// A file on port 80.
    Http01,
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

impl std::str::FromStr for Challenge {
    type Err = InvalidAcmeSettings;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tls-alpn-01" => Ok(Self::TlsAlpn01),
            "http-01" => Ok(Self::Http01),
            _ => Err(InvalidAcmeSettings::Challenge(text.to_owned())),
        }
    }
}

/// Why nothing can be ordered like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAcmeSettings {
    /// Not the name of a public host.
    #[error("{0:?} is not a host name such as relay.example.org")]
    Domain(String),
    /// That would need a record in the DNS.
    #[error("{0:?} is a wildcard, which needs a challenge in the DNS; name each host")]
    Wildcard(String),
    /// More than an authority takes.
    #[error("{0} domains are more than the {MAX_DOMAINS} that fit a certificate")]
    TooMany(usize),
    /// Secrets are not told without TLS.
    #[error("{0:?} is not an https:// URL")]
    Directory(String),
    /// Not a mail address.
    #[error("{0:?} is not a mail address")]
    Email(String),
    /// Another word.
    #[error("{0:?} is neither tls-alpn-01 nor http-01")]
    Challenge(String),
}

impl AcmeSettings {
    /// Finds out what is wrong before a server does.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn check(&self) -> Result<(), InvalidAcmeSettings> {
        if self.domains.len() > MAX_DOMAINS {
            return Err(InvalidAcmeSettings::TooMany(self.domains.len()));
        }
        for domain in &self.domains {
            if domain.starts_with("*.") {
                return Err(InvalidAcmeSettings::Wildcard(domain.clone()));
            }
            if !is_host_name(domain) {
                return Err(InvalidAcmeSettings::Domain(domain.clone()));
            }
        }
        let url = Url::parse(&self.directory).ok().filter(|url| url.scheme() == "https" && url.has_host());
        if url.is_none() {
            return Err(InvalidAcmeSettings::Directory(self.directory.clone()));
        }
        match &self.email {
            Some(email) if !is_mail_address(email) => Err(InvalidAcmeSettings::Email(email.clone())),
            _ => Ok(()),
        }
    }
}

/// Labels with dots between them (RFC 1123 section 2.1); international names as the DNS has them (`xn--`).
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(is_label)
        && name.parse::<IpAddr>().is_err()
}

fn is_mail_address(text: &str) -> bool {
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',');
    plain && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AcmeSettings {
        AcmeSettings {
            domains: vec!["relay.example.org".to_owned(), "xn--bcher-kva.example".to_owned()],
            email: Some("ops@example.org".to_owned()),
            directory: LETS_ENCRYPT.to_owned(),
            ca_file: None,
            challenge: Challenge::default(),
            state_dir: PathBuf::new(),
        }
    }

    #[test]
    fn what_no_server_would_take_is_found_before() {
        settings().check().unwrap();
        for domain in [
            "",
            "relay",
            "10.0.0.1",
            "-a.example",
            "a..example",
            "a_b.example",
            "a.example/",
            "bücher.example",
        ] {
            let settings = AcmeSettings { domains: vec![domain.to_owned()], ..settings() };
            assert_eq!(settings.check(), Err(InvalidAcmeSettings::Domain(domain.to_owned())));
        }
        let wildcard = AcmeSettings { domains: vec!["*.example.org".to_owned()], ..settings() };
        assert!(matches!(wildcard.check(), Err(InvalidAcmeSettings::Wildcard(_))));
        let many = AcmeSettings { domains: vec!["a.example".to_owned(); 101], ..settings() };
        assert_eq!(many.check(), Err(InvalidAcmeSettings::TooMany(101)));
        for directory in ["http://acme.example/directory", "acme.example", "https://"] {
            let settings = AcmeSettings { directory: directory.to_owned(), ..settings() };
            assert!(matches!(settings.check(), Err(InvalidAcmeSettings::Directory(_))), "{directory}");
        }
        for email in ["ops", "@example.org", "a b@example.org", "a@b,c@d"] {
            let settings = AcmeSettings { email: Some(email.to_owned()), ..settings() };
            assert!(matches!(settings.check(), Err(InvalidAcmeSettings::Email(_))), "{email}");
        }
    }

    #[test]
    fn challenges_are_said_as_they_are_read() {
        for challenge in [Challenge::TlsAlpn01, Challenge::Http01] {
            assert_eq!(challenge.to_string().parse(), Ok(challenge));
        }
        assert!("dns-01".parse::<Challenge>().is_err());
    }
}

//! A certificate chain with its private key, and what it says of itself.

use crate::{IdentityError, files::read_limited, provider, spki_sha256};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A certificate chain with its private key: a relay's, or an agent's.
#[derive(Debug)]
pub struct Certificate {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) key: PrivateKeyDer<'static>,
    spki_sha256: [u8; 32],
    facts: Facts,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The hosts and addresses it is for, in its own order.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Whether nobody else has issued it: subject and issuer are the same.
    pub self_signed: bool,
}

impl Certificate {
    /// A certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn from_files(certificate_file: &Path, key_file: &Path) -> Result<Self, IdentityError> {
        let certificate = read_limited(certificate_file)?;
        Self::from_pem(&certificate, &read_limited(key_file)?, certificate_file, key_file)
    }

    /// The same from the contents of the files, which the names are of.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        certificate_file: &Path,
        key_file: &Path,
    ) -> Result<Self, IdentityError> {
        let pem = |file: &Path, error: rustls_pki_types::pem::Error| IdentityError::Pem {
            file: file.into(),
            detail: error.to_string(),
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| pem(certificate_file, error))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| pem(key_file, error))?;
        let leaf = chain.first().and_then(|leaf| Some((spki_sha256(leaf)?, facts(leaf)?)));
        let (spki_sha256, facts) =
            leaf.ok_or_else(|| IdentityError::NoCertificate { file: certificate_file.into() })?;
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &provider()).map_err(|source| {
            IdentityError::Pair {
                certificate_file: certificate_file.into(),
                key_file: key_file.into(),
                source,
            }
        })?;
        Ok(Self { certified: Arc::new(certified), key, spki_sha256, facts })
    }

    /// The SHA-256 of the certificate's `SubjectPublicKeyInfo`: what a pin names.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether both are the same certificate, chain and all.
    pub fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.key.secret_der() == other.key.secret_der()
    }
}

impl Facts {
    /// Whether it is for all of these host names, with a wildcard for the first label where it has one.
    pub fn covers(&self, hosts: &[String]) -> bool {
        hosts.iter().all(|host| self.names.iter().any(|name| matches(name, host)))
    }

    /// How long it is valid in all.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}

fn matches(name: &str, host: &str) -> bool {
    let parent = |host: &str| host.split_once('.').map(|(_, parent)| parent.to_ascii_lowercase());
    name.eq_ignore_ascii_case(host)
        || name.strip_prefix("*.").is_some_and(|domain| parent(host) == Some(domain.to_ascii_lowercase()))
}

fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Facts {
        names: subject_names(&certificate).into_iter().filter_map(SubjectName::host).collect(),
        not_before: time(certificate.validity().not_before.timestamp()),
        not_after: time(certificate.validity().not_after.timestamp()),
        self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
    })
}

pub(crate) fn time(timestamp: i64) -> SystemTime {
    let seconds = Duration::from_secs(timestamp.unsigned_abs());
    let time = if timestamp < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A name that an authority has put into a certificate (RFC 5280 section 4.2.1.6), of the kinds that rules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A host.
    Dns(String),
    /// A mailbox.
    Email(String),
    /// A URI, such as a SPIFFE ID.
    Uri(String),
    /// An address.
    Ip(IpAddr),
}

impl SubjectName {
    fn host(self) -> Option<String> {
        match self {
            Self::Dns(name) => Some(name),
            Self::Ip(address) => Some(address.to_string()),
            Self::Email(_) | Self::Uri(_) => None,
        }
    }
}

/// `DNS:name`, `email:name`, `URI:name`, `IP:address`: no two kinds can be taken for each other.
impl std::fmt::Display for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::Uri(name) => write!(f, "URI:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
        }
    }
}

/// More names than this are not read, nor longer ones: nobody's rule is made of them.
const MAX_NAMES: usize = 256;
const MAX_NAME_BYTES: usize = 1024;

pub(crate) fn subject_names(certificate: &X509Certificate<'_>) -> Vec<SubjectName> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &str| {
        let plain = name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        plain.then(|| name.to_owned())
    };
    let names = extension.value.general_names.iter().take(MAX_NAMES);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => text(name).map(SubjectName::Dns),
            GeneralName::RFC822Name(name) => text(name).map(SubjectName::Email),
            GeneralName::URI(name) => text(name).map(SubjectName::Uri),
            GeneralName::IPAddress(bytes) => ip(bytes).map(SubjectName::Ip),
            _ => None,
        })
        .collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn certificate_tells_what_it_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["relay.example".to_owned(), "127.0.0.1".to_owned()];
        let identity = Identity::self_signed(directory.path(), &names).unwrap();
        let certificate = identity.current();
        let facts = certificate.facts();
        assert_eq!(facts.names, names);
        assert!(facts.self_signed);
        assert!(facts.not_before < SystemTime::now() && SystemTime::now() < facts.not_after);
        assert!(facts.covers(&names));
        assert!(facts.covers(&["RELAY.example".to_owned()]));
        assert!(!facts.covers(&["other.example".to_owned()]));
    }

    #[test]
    fn wildcard_stands_for_one_label() {
        assert!(matches("*.example.org", "relay.Example.org"));
        assert!(!matches("*.example.org", "a.relay.example.org"));
        assert!(!matches("*.example.org", "example.org"));
    }

    #[test]
    fn times_before_the_epoch_and_absurd_ones_are_no_panic() {
        assert_eq!(time(-1), SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        time(i64::MIN);
        time(i64::MAX);
    }
}

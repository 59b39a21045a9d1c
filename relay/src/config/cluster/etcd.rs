//! Where the relays of a cluster find each other.

use crate::tls::files::CertificateFiles;
use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};
use url::{Host, Url};

/// How etcd is reached. Files are named and not held, so that each new connection has what is in them by then.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// Members of one etcd cluster, any of which will do: at least one, and all with TLS or all without.
    pub endpoints: Vec<EtcdUrl>,
    /// What all keys begin with.
    pub prefix: EtcdPrefix,
    /// Authorities that vouch for etcd, in PEM; without it the system's. Only with TLS.
    pub ca: Option<PathBuf>,
    /// What is shown to etcd. Only with TLS.
    pub certificate: Option<CertificateFiles>,
    /// Who the relay is for etcd, where that asks.
    pub user: Option<EtcdUser>,
}

/// `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUrl {
    tls: bool,
    host: Host,
    port: u16,
}

impl EtcdUrl {
    /// The port that etcd is given by IANA.
    pub const DEFAULT_PORT: u16 = 2379;

    /// Whether TLS is spoken.
    pub fn has_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for EtcdUrl {
    type Err = InvalidEtcdUrl;

    fn from_str(text: &str) -> Result<Self, InvalidEtcdUrl> {
        // A default port would be taken out of what was typed, and etcd's is another.
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(InvalidEtcdUrl::Scheme)?;
        if rest.len() > 1024 {
            return Err(InvalidEtcdUrl::Form);
        }
        // No scheme of the standard's own, which would have a default port.
        let url = Url::parse(&format!("etcd://{rest}")).map_err(|_| InvalidEtcdUrl::Form)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEtcdUrl::UserInfo);
        }
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| is_bare).ok_or(InvalidEtcdUrl::Form)?;
        let host = Host::parse(host).map_err(|_| InvalidEtcdUrl::Form)?;
        let port = url.port().unwrap_or(Self::DEFAULT_PORT);
        if port == 0 {
            return Err(InvalidEtcdUrl::Form);
        }
        Ok(Self { tls: text.starts_with("https"), host, port })
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

/// Why a text is not the URL of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEtcdUrl {
    /// Another scheme, or none.
    #[error("the URL of etcd starts with http:// or https://")]
    Scheme,
    /// More than host and port, or less.
    #[error("the URL of etcd is http://HOST:PORT or https://HOST:PORT")]
    Form,
    /// `user:password@`.
    #[error("the URL of etcd has no user or password in it; see --etcd-user and --etcd-password-file")]
    UserInfo,
}

/// What all keys of a cluster begin with: it begins and ends with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdPrefix(String);

impl EtcdPrefix {
    /// Longer ones are refused.
    pub const MAX_BYTES: usize = 256;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EtcdPrefix {
    fn default() -> Self {
        Self("/converge/".to_owned())
    }
}

impl FromStr for EtcdPrefix {
    type Err = InvalidEtcdPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidEtcdPrefix> {
        let is_framed = text.starts_with('/') && text.ends_with('/');
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_framed || !is_plain || text.len() > Self::MAX_BYTES {
            return Err(InvalidEtcdPrefix);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for EtcdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prefix begins and ends with '/', and has up to {} characters of ASCII without spaces",
    EtcdPrefix::MAX_BYTES
)]
pub struct InvalidEtcdPrefix;

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// The file with its password.
    pub password_file: PathBuf,
}

impl EtcdUser {
    /// Longer passwords are refused.
    pub const MAX_PASSWORD_BYTES: usize = 4096;

    /// The password that is in the file now, without the end of its line. Blocks on the disk.
    ///
    /// # Errors
    /// [`UnusablePassword`] names the file; nothing of what is in it.
    pub fn password(&self) -> Result<String, UnusablePassword> {
        let file = || self.password_file.clone();
        let read = read_limited(&self.password_file);
        let text = read.map_err(|source| UnusablePassword::Read { file: file(), source })?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() || password.contains(char::is_control) {
            return Err(UnusablePassword::Form { file: file() });
        }
        Ok(password.to_owned())
    }
}

fn read_limited(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = EtcdUser::MAX_PASSWORD_BYTES + "\r\n".len();
    fs::File::open(file)?.take(limit as u64 + 1).read_to_string(&mut text)?;
    if text.len() > limit { Err(io::Error::other("it is too long for a password")) } else { Ok(text) }
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePassword {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not one line.
    #[error("{} is not one line with a password", file.display())]
    Form {
        /// Which.
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_nothing_else() {
        for (text, whole) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://etcd.internal", "https://etcd.internal:2379"),
            ("https://etcd.internal:443/", "https://etcd.internal:443"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            let url: EtcdUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.has_tls()), (whole, text.starts_with("https")));
            assert_eq!(whole.parse::<EtcdUrl>(), Ok(url));
        }
        for (text, wrong) in [
            ("etcd.internal:2379", InvalidEtcdUrl::Scheme),
            ("ftp://host", InvalidEtcdUrl::Scheme),
            ("", InvalidEtcdUrl::Scheme),
            ("http://", InvalidEtcdUrl::Form),
            ("http://host/path", InvalidEtcdUrl::Form),
            ("http://host?query", InvalidEtcdUrl::Form),
            ("http://host#fragment", InvalidEtcdUrl::Form),
            ("http://host:0", InvalidEtcdUrl::Form),
            ("http://host:65536", InvalidEtcdUrl::Form),
            ("http://a b", InvalidEtcdUrl::Form),
            ("https://root:secret@host", InvalidEtcdUrl::UserInfo),
        ] {
            assert_eq!(text.parse::<EtcdUrl>(), Err(wrong), "{text:?}");
        }
        let long = format!("http://{}", "a".repeat(1025));
        assert_eq!(long.parse::<EtcdUrl>(), Err(InvalidEtcdUrl::Form));
    }

    #[test]
    fn prefixes_are_framed_by_slashes() {
        for good in ["/converge/", "/", &format!("/{}/", "x".repeat(254))] {
            assert_eq!(good.parse::<EtcdPrefix>().unwrap().as_str(), good);
        }
        for bad in ["", "converge/", "/converge", "/a b/", "/\u{fc}/", &format!("/{}/", "x".repeat(255))] {
            assert_eq!(bad.parse::<EtcdPrefix>(), Err(InvalidEtcdPrefix), "{bad:?}");
        }
        assert_eq!(EtcdPrefix::default().to_string().parse(), Ok(EtcdPrefix::default()));
    }

    #[test]
    fn passwords_are_one_line_and_are_read_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let user = EtcdUser { name: "relay".to_owned(), password_file: file.clone() };
        let error = user.password().unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {}: ", file.display())), "{error}");
        let longest = "x".repeat(EtcdUser::MAX_PASSWORD_BYTES);
        for (contents, password) in
            [("one", "one"), ("two\n", "two"), ("three \r\n", "three "), (&format!("{longest}\n"), &longest)]
        {
            fs::write(&file, contents).unwrap();
            assert_eq!(user.password().unwrap(), password);
        }
        for contents in ["", "\n", "hunter2\nhunter3\n", "hunter\t2"] {
            fs::write(&file, contents).unwrap();
            let expected = format!("{} is not one line with a password", file.display());
            assert_eq!(user.password().unwrap_err().to_string(), expected);
        }
        fs::write(&file, format!("{longest}xxx")).unwrap();
        assert!(user.password().unwrap_err().to_string().ends_with("it is too long for a password"));
    }
}

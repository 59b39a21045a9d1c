//! Where a list of keys is fetched from: names and URLs that were checked.

use std::fmt;

use url::{Host, Url};

/// The public GitHub.
pub const GITHUB: &str = "https://github.com";
/// The public GitLab.
pub const GITLAB: &str = "https://gitlab.com";

/// The longest URL.
const MAX_URL_BYTES: usize = 2048;
/// What GitHub allows.
const MAX_GITHUB_NAME: usize = 39;
/// What GitLab allows.
const MAX_GITLAB_NAME: usize = 255;

/// The address of a list of keys. Prints without its query, in which there may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ListSource {
    url: Url,
}

/// Why a list cannot be fetched from there. Nothing here repeats a URL: there may be a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSource {
    /// Not the name of a user.
    #[error("{name:?} is not the name of a user of {site}: {rule}")]
    Name {
        /// What was typed.
        name: String,
        /// GitHub or GitLab.
        site: &'static str,
        /// What a name looks like.
        rule: &'static str,
    },
    /// Over the limit.
    #[error("the URL has more than {MAX_URL_BYTES} characters")]
    TooLong,
    /// The standard's parser refused it.
    #[error("not a URL: {0}")]
    Url(url::ParseError),
    /// Cleartext, or something else than HTTP.
    #[error(
        "the URL has to start with https://: whoever can change the list on its way gets in (http:// is for this \
         machine's own addresses only)"
    )]
    NotSecure,
    /// User name or password.
    #[error("a user name or password in the URL is not supported; put a token into its query instead")]
    UserInfo,
    /// The address of a site with a query behind it.
    #[error("a site's URL ends with its path: nothing with ? or # belongs behind it")]
    Query,
}

impl ListSource {
    /// The keys of a GitHub user, from [`GITHUB`] or the site of an enterprise.
    ///
    /// # Errors
    /// [`InvalidSource`]. The name becomes part of a URL, so that nothing but names is let through.
    pub fn github(site: &str, name: &str) -> Result<Self, InvalidSource> {
        let is_name = name.len() <= MAX_GITHUB_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let rule = "letters, digits, - and _, at most 39 of them, a letter or digit first";
        Self::of_user(site, name, is_name.then_some(()).ok_or(("GitHub", rule)))
    }

    /// The keys of a GitLab user, from [`GITLAB`] or a site of one's own.
    ///
    /// # Errors
    /// As with [`github`](Self::github).
    pub fn gitlab(site: &str, name: &str) -> Result<Self, InvalidSource> {
        let is_name = name.len() <= MAX_GITLAB_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !name.ends_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let rule = "letters, digits, -, _ and ., at most 255 of them, a letter, digit or _ first and no . at the end";
        Self::of_user(site, name, is_name.then_some(()).ok_or(("GitLab", rule)))
    }

    fn of_user(
        site: &str,
        name: &str,
        checked: Result<(), (&'static str, &'static str)>,
    ) -> Result<Self, InvalidSource> {
        checked.map_err(|(site, rule)| InvalidSource::Name {
            name: name.chars().take(60).collect(),
            site,
            rule,
        })?;
        let site = Self::url(site)?.url;
        if site.query().is_some() || site.fragment().is_some() {
            return Err(InvalidSource::Query);
        }
        Self::url(&format!("{}/{name}.keys", site.as_str().trim_end_matches('/')))
    }

    /// Any list in the format of an `authorized_keys` file.
    ///
    /// # Errors
    /// [`InvalidSource`] unless it is an `https://` URL, or an `http://` one of this machine itself: whoever could
    /// change a list on its way would get in.
    pub fn url(text: &str) -> Result<Self, InvalidSource> {
        let text = text.trim();
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidSource::TooLong);
        }
        Self::checked(Url::parse(text).map_err(InvalidSource::Url)?)
    }

    fn checked(url: Url) -> Result<Self, InvalidSource> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => is_loopback(&url),
            _ => false,
        };
        if !secure {
            return Err(InvalidSource::NotSecure);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidSource::UserInfo);
        }
        Ok(Self { url })
    }

    /// Where a server sends us on to: by the rules of [`url`](Self::url), and never from TLS to none.
    pub(super) fn redirected(&self, location: &str) -> Result<Self, InvalidSource> {
        if location.len() > MAX_URL_BYTES {
            return Err(InvalidSource::TooLong);
        }
        let next = Self::checked(self.url.join(location).map_err(InvalidSource::Url)?)?;
        if self.has_tls() && !next.has_tls() { Err(InvalidSource::NotSecure) } else { Ok(next) }
    }

    pub(super) fn has_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Name or address, without brackets around IPv6.
    pub(super) fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            // Neither https nor http is without one.
            None => String::new(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// For the `Host` header: without a default port, and with brackets around IPv6.
    pub(super) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query, for the request line.
    pub(super) fn target(&self) -> String {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.url.path())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl fmt::Display for ListSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.url.query().is_some() { "?…" } else { "" };
        write!(f, "{}://{}{}{hidden}", self.url.scheme(), self.authority(), self.url.path())
    }
}

impl fmt::Debug for ListSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_urls() {
        for (site, name, url) in [
            (GITHUB, "kim", "https://github.com/kim.keys"),
            (GITHUB, "Kim-Lee_corp", "https://github.com/Kim-Lee_corp.keys"),
            ("https://git.example/", "kim", "https://git.example/kim.keys"),
            ("https://git.example:8443/hub", "kim", "https://git.example:8443/hub/kim.keys"),
            ("http://127.0.0.1:8080", "kim", "http://127.0.0.1:8080/kim.keys"),
        ] {
            assert_eq!(ListSource::github(site, name).unwrap().to_string(), url);
        }
        assert_eq!(
            ListSource::gitlab(GITLAB, "kim.lee_").unwrap().to_string(),
            "https://gitlab.com/kim.lee_.keys"
        );
    }

    #[test]
    fn what_is_no_name_never_gets_into_a_url() {
        let long = "a".repeat(40);
        for name in [
            "", "a/b", "../kim", "kim?x", "kim#x", "kim lee", "kim.lee", "-kim", "kïm", "kim%2f", "@kim",
            &long,
        ] {
            assert!(matches!(ListSource::github(GITHUB, name), Err(InvalidSource::Name { .. })), "{name}");
        }
        let long = "a".repeat(256);
        for name in ["", ".kim", "..", "kim.", "-kim", "a/b", "kim?x", "kim\n", "k\0m", &long] {
            assert!(matches!(ListSource::gitlab(GITLAB, name), Err(InvalidSource::Name { .. })), "{name}");
        }
    }

    #[test]
    fn cleartext_is_for_this_machine_only() {
        for good in [
            "https://h/keys",
            "http://127.0.0.1/k",
            "http://127.9.9.9:1/k",
            "http://[::1]:80/k",
            "http://localhost/k",
        ] {
            assert!(ListSource::url(good).is_ok(), "{good}");
        }
        let long = format!("https://h/{}", "x".repeat(MAX_URL_BYTES));
        for (bad, error) in [
            ("http://h/keys", InvalidSource::NotSecure),
            ("http://127.0.0.1.example/keys", InvalidSource::NotSecure),
            ("http://10.0.0.1/keys", InvalidSource::NotSecure),
            ("ftp://h/keys", InvalidSource::NotSecure),
            ("file:///etc/passwd", InvalidSource::NotSecure),
            ("https://kim:secret@h/keys", InvalidSource::UserInfo),
            ("keys", InvalidSource::Url(url::ParseError::RelativeUrlWithoutBase)),
            (&long, InvalidSource::TooLong),
        ] {
            assert_eq!(ListSource::url(bad), Err(error), "{bad}");
        }
        assert_eq!(ListSource::github("https://h/?x", "kim"), Err(InvalidSource::Query));
        assert_eq!(ListSource::github("http://h", "kim"), Err(InvalidSource::NotSecure));
    }

    #[test]
    fn redirects_never_leave_tls() {
        let list = ListSource::url("https://h/a/keys").unwrap();
        for (location, url) in [
            ("../b", "https://h/b"),
            ("https://other/x", "https://other/x"),
            ("//other/x", "https://other/x"),
        ] {
            assert_eq!(list.redirected(location).unwrap().to_string(), url);
        }
        for location in
            ["http://h/keys", "http://127.0.0.1/keys", "https://u:p@h/keys", "file:///keys", "https://"]
        {
            assert!(list.redirected(location).is_err(), "{location}");
        }
        let local = ListSource::url("http://127.0.0.1:1/keys").unwrap();
        assert!(local.redirected("/other").is_ok() && local.redirected("https://h/keys").is_ok());
        assert_eq!(local.redirected("http://h/keys"), Err(InvalidSource::NotSecure));
    }

    #[test]
    fn passwords_in_a_query_are_sent_and_not_shown() {
        let list = ListSource::url("https://h:8443/keys?token=hunter2").unwrap();
        assert_eq!(list.target(), "/keys?token=hunter2");
        assert_eq!(format!("{list} {list:?}"), "https://h:8443/keys?… https://h:8443/keys?…");
        assert_eq!((list.host(), list.port(), list.authority()), ("h".into(), 8443, "h:8443".into()));
        let list = ListSource::url("https://[::1]/keys").unwrap();
        assert_eq!((list.host(), list.port(), list.authority()), ("::1".into(), 443, "[::1]".into()));
    }
}

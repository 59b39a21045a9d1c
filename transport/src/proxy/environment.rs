//! What the environment says about proxies.

use super::{InvalidProxyUrl, NoProxy, ProxyRuling, ProxyUrl};
use std::net::IpAddr;

/// The variables that name proxies, in the order in which they are asked; the lower case comes first, as with curl. An
/// empty one is not there.
const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// A web server sets this for a CGI program, for which `HTTP_PROXY` is a header that a stranger has sent.
const CGI: &str = "REQUEST_METHOD";

/// The proxies that the environment names, read once: `HTTPS_PROXY` for relays with TLS, `HTTP_PROXY` for `ws://`,
/// `ALL_PROXY` for both, and `NO_PROXY`; each also in lower case.
///
/// Loopback needs no proxy and gets none, whatever the environment says.
#[derive(Clone, Debug, Default)]
pub struct ProxyEnvironment {
    https: Option<Setting>,
    http: Option<Setting>,
    no_proxy: NoProxy,
}

/// What one variable says. It is judged when it is needed: nobody who gets through on QUIC has to mend it.
#[derive(Clone, Debug)]
struct Setting {
    variable: &'static str,
    proxy: Result<ProxyUrl, InvalidProxyUrl>,
}

/// A variable names a proxy that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} cannot be used: {error}")]
pub struct UnusableProxy {
    /// Which.
    pub variable: &'static str,
    /// Why.
    pub error: InvalidProxyUrl,
}

impl ProxyEnvironment {
    /// The environment of this process.
    pub fn read() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// An environment in which `variable` has the values.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value =
            |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
        let setting = |names: &[&'static str]| {
            let (variable, value) = names.iter().find_map(value)?;
            Some(Setting { variable, proxy: value.parse() })
        };
        let is_cgi = variable(CGI).is_some();
        let http: Vec<_> = HTTP.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY")).collect();
        let no_proxy = NO_PROXY.iter().find_map(value);
        Self {
            https: setting(&HTTPS),
            http: setting(&http),
            no_proxy: no_proxy.map(|(_, list)| NoProxy::parse(&list)).unwrap_or_default(),
        }
    }

    /// The proxy for a host, which is a name or an address without brackets.
    ///
    /// # Errors
    /// [`UnusableProxy`] when the variable that counts makes no sense.
    pub fn proxy_for(&self, host: &str, port: u16, tls: bool) -> Result<Option<&ProxyUrl>, UnusableProxy> {
        self.ruling(host, port, tls).map(ProxyRuling::proxy)
    }

    /// As [`proxy_for`](Self::proxy_for), and why.
    ///
    /// # Errors
    /// As there.
    pub fn ruling(&self, host: &str, port: u16, tls: bool) -> Result<ProxyRuling<'_>, UnusableProxy> {
        let Some(setting) = (if tls { &self.https } else { &self.http }) else {
            return Ok(ProxyRuling::NotNamed);
        };
        let variable = setting.variable;
        if is_loopback(host) {
            return Ok(ProxyRuling::Loopback { variable });
        }
        if self.no_proxy.names(host, port) {
            return Ok(ProxyRuling::NoProxy { variable });
        }
        match &setting.proxy {
            Ok(proxy) => Ok(ProxyRuling::Named { proxy, variable }),
            Err(error) => Err(UnusableProxy { variable, error: error.clone() }),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> ProxyEnvironment {
        ProxyEnvironment::from_variables(|asked| {
            variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned())
        })
    }

    /// The host of the proxy for `relay.example:443`.
    fn proxy(variables: &[(&str, &str)], tls: bool) -> Option<String> {
        let environment = environment(variables);
        environment.proxy_for("relay.example", 443, tls).unwrap().map(ProxyUrl::host)
    }

    #[test]
    fn variables_are_asked_in_order() {
        let (https, all) = (("HTTPS_PROXY", "http://upper"), ("ALL_PROXY", "socks5://all"));
        for (variables, with_tls, without) in [
            (&[][..], None, None),
            (&[https], Some("upper"), None),
            (&[https, ("https_proxy", "http://lower")], Some("lower"), None),
            (&[https, ("https_proxy", " ")], Some("upper"), None),
            (&[all], Some("all"), Some("all")),
            (&[all, ("all_proxy", "socks5://low")], Some("low"), Some("low")),
            (&[all, https], Some("upper"), Some("all")),
            (&[("http_proxy", "p")], None, Some("p")),
            (&[("HTTP_PROXY", "p")], None, Some("p")),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("http_proxy", "p"), ("REQUEST_METHOD", "GET")], None, Some("p")),
            (&[https, ("NO_PROXY", "relay.example")], None, None),
            (&[https, ("NO_PROXY", "other.example")], Some("upper"), None),
            (&[https, ("NO_PROXY", "relay.example"), ("no_proxy", "x")], Some("upper"), None),
        ] {
            assert_eq!(proxy(variables, true).as_deref(), with_tls, "{variables:?}");
            assert_eq!(proxy(variables, false).as_deref(), without, "{variables:?}");
        }
    }

    #[test]
    fn loopback_gets_no_proxy() {
        let environment = environment(&[("ALL_PROXY", "http://proxy")]);
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(environment.proxy_for(host, 443, true), Ok(None), "{host}");
            let ruling = environment.ruling(host, 443, true);
            assert_eq!(ruling, Ok(ProxyRuling::Loopback { variable: "ALL_PROXY" }), "{host}");
        }
        assert!(environment.proxy_for("127.example", 443, true).unwrap().is_some());
    }

    #[test]
    fn unusable_variable_is_named_when_it_counts_and_not_before() {
        let environment =
            environment(&[("HTTPS_PROXY", "socks4://u:hunter2@proxy"), ("NO_PROXY", "in.example")]);
        let error = environment.proxy_for("relay.example", 443, true).unwrap_err();
        assert!(error.to_string().starts_with("HTTPS_PROXY cannot be used: "), "{error}");
        assert!(!format!("{error:?} {environment:?}").contains("hunter2"), "{environment:?}");
        assert_eq!(environment.proxy_for("in.example", 443, true), Ok(None));
        assert_eq!(environment.proxy_for("relay.example", 80, false), Ok(None));
    }

    #[test]
    fn ruling_says_where_the_proxy_comes_from_and_shows_no_password() {
        let environment =
            environment(&[("HTTPS_PROXY", "http://u:hunter2@proxy:3128"), ("NO_PROXY", "in.example")]);
        for (host, tls, words) in [
            ("relay.example", true, "http://proxy:3128, from HTTPS_PROXY"),
            ("in.example", true, "none: HTTPS_PROXY names one, but NO_PROXY has the relay"),
            ("localhost", true, "none: HTTPS_PROXY names one, but the relay is on this machine"),
            ("relay.example", false, "none: the environment names none"),
        ] {
            assert_eq!(environment.ruling(host, 443, tls).unwrap().to_string(), words);
        }
    }
}

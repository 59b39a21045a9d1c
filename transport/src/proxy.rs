//! Which proxy a WebSocket goes through: logic only, nothing here opens a socket.
//!
//! QUIC never goes through a proxy. A proxy is named on the command line, or by the variables that other programs read
//! too ([`ProxyEnvironment`]).

mod bypass;
mod environment;
mod ruling;
mod url;

pub use bypass::NoProxy;
pub use environment::{ProxyEnvironment, UnusableProxy};
pub use ruling::ProxyRuling;
pub use url::{Credentials, InvalidProxyUrl, ProxyScheme, ProxyUrl};

use converge_proto::RelayUrl;
use std::str::FromStr;

/// What is typed for no proxy at all.
const NONE: &str = "none";

/// Which proxy WebSockets go through.
#[derive(Clone, Debug, Default)]
pub enum ProxyChoice {
    /// None.
    #[default]
    Direct,
    /// This one, whichever relay is dialed.
    Always(ProxyUrl),
    /// The one that the environment names for the relay, if any.
    Environment(Box<ProxyEnvironment>),
}

impl ProxyChoice {
    /// What this process's environment says.
    pub fn from_environment() -> Self {
        Self::Environment(Box::new(ProxyEnvironment::read()))
    }

    /// What was typed; without it the environment decides.
    ///
    /// # Errors
    /// [`InvalidProxyUrl`], which does not repeat what was typed: there may be a password in it.
    pub fn from_option(typed: Option<&str>) -> Result<Self, InvalidProxyUrl> {
        typed.map_or_else(|| Ok(Self::from_environment()), str::parse)
    }

    /// The choice as a child process is to read it from its environment, password and all; `None` when it will find it
    /// there anyway. Never for a log or a command line, which others can read.
    pub fn with_password_exposed(&self) -> Option<String> {
        match self {
            Self::Direct => Some(NONE.to_owned()),
            Self::Always(proxy) => Some(proxy.with_password_exposed()),
            Self::Environment(_) => None,
        }
    }

    /// The proxy for this relay; `None` when it is dialed directly.
    ///
    /// # Errors
    /// [`UnusableProxy`] when the environment names one that makes no sense.
    pub fn proxy_for(&self, relay: &RelayUrl) -> Result<Option<&ProxyUrl>, UnusableProxy> {
        self.ruling(relay).map(ProxyRuling::proxy)
    }

    /// As [`proxy_for`](Self::proxy_for), and who says so.
    ///
    /// # Errors
    /// As there.
    pub fn ruling(&self, relay: &RelayUrl) -> Result<ProxyRuling<'_>, UnusableProxy> {
        match self {
            Self::Direct => Ok(ProxyRuling::Direct),
            Self::Always(proxy) => Ok(ProxyRuling::Given(proxy)),
            Self::Environment(environment) => {
                environment.ruling(&relay.host(), relay.port(), relay.has_tls())
            }
        }
    }
}

/// A proxy's URL, or `none`.
impl FromStr for ProxyChoice {
    type Err = InvalidProxyUrl;

    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        if text.trim().eq_ignore_ascii_case(NONE) { Ok(Self::Direct) } else { text.parse().map(Self::Always) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_no_proxy_and_anything_else_a_url() {
        assert!(matches!("none".parse(), Ok(ProxyChoice::Direct)));
        assert!(matches!("http://proxy:3128".parse(), Ok(ProxyChoice::Always(_))));
        assert!("ftp://proxy".parse::<ProxyChoice>().is_err());
        assert!(matches!(ProxyChoice::from_option(None), Ok(ProxyChoice::Environment(_))));
    }

    #[test]
    fn child_process_reads_the_same_choice() {
        for typed in ["none", "http://u:p%40ss@proxy:3128"] {
            let choice: ProxyChoice = typed.parse().unwrap();
            assert_eq!(choice.with_password_exposed().as_deref(), Some(typed));
        }
        assert_eq!(ProxyChoice::Environment(Box::default()).with_password_exposed(), None);
    }

    #[test]
    fn proxy_that_was_typed_serves_every_relay() {
        let choice: ProxyChoice = "http://proxy:3128".parse().unwrap();
        for relay in ["wss://relay.example", "ws://127.0.0.1:8080"] {
            assert!(choice.proxy_for(&relay.parse().unwrap()).unwrap().is_some(), "{relay}");
        }
    }
}

//! Which proxy it is, and who says so.

use super::ProxyUrl;
use std::fmt;

/// The proxy for one relay and where it comes from, or why there is none. Prints without a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRuling<'a> {
    /// No proxy was asked for.
    Direct,
    /// This one was given by hand.
    Given(&'a ProxyUrl),
    /// A variable of the environment names it.
    Named {
        /// The proxy.
        proxy: &'a ProxyUrl,
        /// Which variable.
        variable: &'static str,
    },
    /// The environment names none.
    NotNamed,
    /// A variable names one, but the relay is on this machine.
    Loopback {
        /// Which variable.
        variable: &'static str,
    },
    /// A variable names one, but `NO_PROXY` lists the relay.
    NoProxy {
        /// Which variable.
        variable: &'static str,
    },
}

impl<'a> ProxyRuling<'a> {
    /// The proxy; `None` when the relay is dialed directly.
    pub fn proxy(self) -> Option<&'a ProxyUrl> {
        match self {
            Self::Given(proxy) | Self::Named { proxy, .. } => Some(proxy),
            Self::Direct | Self::NotNamed | Self::Loopback { .. } | Self::NoProxy { .. } => None,
        }
    }
}

impl fmt::Display for ProxyRuling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("none, as was asked for"),
            Self::Given(proxy) => write!(f, "{proxy}, from --proxy or CONVERGE_PROXY"),
            Self::Named { proxy, variable } => write!(f, "{proxy}, from {variable}"),
            Self::NotNamed => f.write_str("none: the environment names none"),
            Self::Loopback { variable } => {
                write!(f, "none: {variable} names one, but the relay is on this machine")
            }
            Self::NoProxy { variable } => write!(f, "none: {variable} names one, but NO_PROXY has the relay"),
        }
    }
}

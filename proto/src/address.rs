//! What a person copies to reach an agent.

use crate::{
    host_key::{Fingerprint, InvalidFingerprint},
    id::{Id, InvalidId},
    relay_url::{InvalidRelayUrl, RelayUrl},
};
use std::{fmt, str::FromStr};

/// An agent's address: `ID`, `ID.FINGERPRINT`, either with `.converge` behind it, or the relay's own URL for it,
/// `https://relay[:port][/sub/path]/client/ID[.FINGERPRINT][#pin-sha256=…]` (also `wss`, `ws` and `quic`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The agent's ID.
    pub id: Id,
    /// The host key the agent must have, when the address says so.
    pub fingerprint: Option<Fingerprint>,
    /// The relay, when the address is a URL.
    pub relay: Option<RelayUrl>,
}

impl Address {
    /// The ending that lets an `ssh_config` block match all our addresses.
    pub const SUFFIX: &str = ".converge";
    /// The path under which a relay serves its agents' IDs.
    pub const CLIENT_PATH: &str = "client";

    /// `ID` or `ID.FINGERPRINT`, without the relay.
    pub fn short(&self) -> String {
        match &self.fingerprint {
            Some(fingerprint) => format!("{}.{fingerprint}", self.id),
            None => self.id.to_string(),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if !text.contains("://") {
            return parse_short(text, None);
        }
        let (relay, path) = RelayUrl::parse_with_path(text)?;
        let Some((before, short)) = path.rsplit_once('/').filter(|(before, _)| {
            *before == Self::CLIENT_PATH || before.ends_with(&format!("/{}", Self::CLIENT_PATH))
        }) else {
            return Err(InvalidAddress::NoClientPath);
        };
        let base = before.strip_suffix(Self::CLIENT_PATH).unwrap_or(before);
        parse_short(short, Some(relay.with_path(base)))
    }
}

fn parse_short(text: &str, relay: Option<RelayUrl>) -> Result<Address, InvalidAddress> {
    let text = text.strip_suffix(Address::SUFFIX).unwrap_or(text);
    let (id, fingerprint) = match text.split_once('.') {
        Some((id, fingerprint)) => (id, Some(fingerprint.parse()?)),
        None => (text, None),
    };
    Ok(Address { id: id.parse()?, fingerprint, relay })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(relay) = &self.relay else { return f.write_str(&self.short()) };
        f.write_str(&relay.with_scheme(relay.scheme(), &format!("{}/{}", Self::CLIENT_PATH, self.short())))?;
        relay.pin().map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The ID in it is wrong.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// What stands behind the ID is wrong.
    #[error(transparent)]
    Fingerprint(#[from] InvalidFingerprint),
    /// The URL is wrong.
    #[error(transparent)]
    RelayUrl(#[from] InvalidRelayUrl),
    /// A URL of something else.
    #[error("the URL of an agent ends with /client/ID")]
    NoClientPath,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "abcdefghij234567abcd";

    #[test]
    fn every_form_of_the_design_is_read_and_printed_back() {
        for text in [
            "a-b".to_owned(),
            format!("a-b.{FINGERPRINT}"),
            "https://relay/client/a-b".to_owned(),
            format!("https://relay:4433/sub/path/client/a-b.{FINGERPRINT}"),
            format!("wss://relay/client/a-b.{FINGERPRINT}"),
            "ws://127.0.0.1:8080/client/a-b".to_owned(),
            "quic://[::1]:4433/client/a-b".to_owned(),
            format!("https://relay/client/client#pin-sha256={}", "A".repeat(43)),
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn suffix_for_ssh_config_is_taken_off() {
        let address: Address = format!("build.{FINGERPRINT}.converge").parse().unwrap();
        assert_eq!((address.id.as_str(), address.fingerprint), ("build", Some(FINGERPRINT.parse().unwrap())));
        assert_eq!("build.converge".parse::<Address>().unwrap().to_string(), "build");
    }

    #[test]
    fn relay_of_an_address_keeps_its_sub_path_and_pin() {
        let text = format!("https://relay/a/b/client/x#pin-sha256={}", "A".repeat(43));
        let relay = text.parse::<Address>().unwrap().relay.unwrap();
        assert_eq!(relay.to_string(), format!("https://relay/a/b#pin-sha256={}", "A".repeat(43)));
        assert_eq!(relay.path("agent"), "/a/b/agent");
    }

    #[test]
    fn wrong_addresses_are_refused_in_words() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error(""), InvalidAddress::Id(InvalidId::Empty));
        assert!(matches!(error("a.b"), InvalidAddress::Fingerprint(_)));
        assert!(matches!(error("user@host"), InvalidAddress::Id(_)));
        assert_eq!(error("https://relay/x"), InvalidAddress::NoClientPath);
        assert_eq!(error("https://relay/xclient/a"), InvalidAddress::NoClientPath);
        assert!(matches!(error("https://relay/client/A_"), InvalidAddress::Id(_)));
        assert!(matches!(error("ftp://relay/client/a"), InvalidAddress::RelayUrl(_)));
    }
}

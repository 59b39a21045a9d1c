//! Several relays of which any will do, as a person names them.

use crate::relay_url::{CarrierChoice, InvalidRelayUrl, RelayUrl};
use std::{fmt, str::FromStr};

/// One relay or several, written `URL` or `URL,URL,…`; blanks around a comma mean nothing. The order says nothing about
/// which is better, and none is named twice.
///
/// A comma in the path of a URL belongs to the path, unless another URL begins behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayUrls {
    /// There is always one.
    first: RelayUrl,
    others: Vec<RelayUrl>,
}

impl RelayUrls {
    /// Lists of more relays are refused.
    pub const MAX: usize = 16;
    /// Texts longer than this are refused: [`MAX`](Self::MAX) URLs of the longest kind, with a comma and a blank each.
    pub const MAX_BYTES: usize = Self::MAX * (RelayUrl::MAX_BYTES + 2);

    /// A list of these.
    ///
    /// # Errors
    /// [`InvalidRelayUrls`] when there are none, too many, or the same one twice.
    pub fn new(relays: impl IntoIterator<Item = RelayUrl>) -> Result<Self, InvalidRelayUrls> {
        let mut relays = relays.into_iter();
        let mut list = Self::from(relays.next().ok_or(InvalidRelayUrls::Nothing)?);
        for relay in relays {
            if list.find(&relay).is_some() {
                return Err(InvalidRelayUrls::Twice(relay.authority()));
            }
            if list.count() >= Self::MAX {
                return Err(InvalidRelayUrls::TooMany);
            }
            list.others.push(relay);
        }
        Ok(list)
    }

    /// The one that was named first.
    pub fn first(&self) -> &RelayUrl {
        &self.first
    }

    /// All of them, as they were named.
    pub fn iter(&self) -> impl Iterator<Item = &RelayUrl> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many there are: 1 to [`MAX`](Self::MAX).
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether there is a choice.
    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// The one that is the same relay as `relay`, whatever the carriers and the pin.
    pub fn find(&self, relay: &RelayUrl) -> Option<&RelayUrl> {
        self.iter().find(|known| known.is_same_relay(relay))
    }

    /// The same relays with another choice of carriers, where they have one.
    #[must_use]
    pub fn with_carriers(self, carriers: CarrierChoice) -> Self {
        self.map(|relay| relay.with_carriers(carriers))
    }

    fn map(self, change: impl Fn(RelayUrl) -> RelayUrl) -> Self {
        Self { first: change(self.first), others: self.others.into_iter().map(change).collect() }
    }
}

impl From<RelayUrl> for RelayUrls {
    fn from(first: RelayUrl) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl FromStr for RelayUrls {
    type Err = InvalidRelayUrls;

    fn from_str(text: &str) -> Result<Self, InvalidRelayUrls> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidRelayUrls::TooLong);
        }
        let pieces = pieces(text);
        if let [one] = pieces.as_slice() {
            return Ok(Self::from(one.parse::<RelayUrl>()?));
        }
        let count = pieces.len();
        let relays = pieces.into_iter().enumerate().map(|(index, piece)| match piece {
            "" => Err(InvalidRelayUrls::Empty { number: index + 1 }),
            piece => {
                piece.parse().map_err(|error| InvalidRelayUrls::OneOf { number: index + 1, of: count, error })
            }
        });
        Self::new(relays.collect::<Result<Vec<_>, _>>()?)
    }
}

/// What stands between the commas that separate, without blanks around it.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest, mut from) = (Vec::new(), text, 0);
    while let Some(comma) = rest.get(from..).and_then(|tail| tail.find(',')).map(|at| from + at) {
        let (before, behind) = (&rest[..comma], &rest[comma + 1..]);
        if ends_in_a_path(before) && !begins_with_a_scheme(behind) {
            from = comma + 1;
        } else {
            pieces.push(before.trim());
            (rest, from) = (behind, 0);
        }
    }
    pieces.push(rest.trim());
    pieces
}

fn ends_in_a_path(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| rest.contains('/') && !rest.contains('#'))
}

fn begins_with_a_scheme(text: &str) -> bool {
    // The URL standard looks past line feeds and tabs anywhere.
    let text: String = text.chars().filter(|char| !matches!(char, '\t' | '\n' | '\r')).collect();
    let scheme = text.trim_start().split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl fmt::Display for RelayUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others.iter().try_for_each(|relay| write!(f, ",{relay}"))
    }
}

impl fmt::Debug for RelayUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no list of relays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRelayUrls {
    /// The only URL is wrong.
    #[error(transparent)]
    One(#[from] InvalidRelayUrl),
    /// One of several is wrong.
    #[error("URL {number} of {of}: {error}")]
    OneOf {
        /// Which, from 1 on.
        number: usize,
        /// How many there are.
        of: usize,
        /// What is wrong with it.
        error: InvalidRelayUrl,
    },
    /// A comma with nothing before or behind it.
    #[error("URL {number} is missing: there is a comma too many")]
    Empty {
        /// Which, from 1 on.
        number: usize,
    },
    /// The same relay twice.
    #[error("the relay {0} is named twice; https:// has both carriers already")]
    Twice(String),
    /// No relay at all.
    #[error("no relay is named")]
    Nothing,
    /// Over [`RelayUrls::MAX`].
    #[error("at most {} relays can be named", RelayUrls::MAX)]
    TooMany,
    /// Over [`RelayUrls::MAX_BYTES`].
    #[error("a list of relays has at most {} characters", RelayUrls::MAX_BYTES)]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> RelayUrls {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_printed_is_what_was_read() {
        let pin = "A".repeat(43);
        for text in [
            "https://relay.example",
            "https://relay.example:4433/sub/path,wss://[::1]:4433",
            &format!("https://a#pin-sha256={pin},https://b#pin-sha256={pin},ws://c"),
            "https://a/x,y",
            "https://a/x,y,https://b/z,",
            "ws://a:443,https://a",
            "https://a/one,https://a/two",
        ] {
            assert_eq!(list(text).to_string(), text);
            assert_eq!(list(&list(text).to_string()), list(text));
        }
    }

    #[test]
    fn blanks_around_commas_mean_nothing() {
        let blanks = list(" https://a ,\twss://b:4433 , ws://c");
        assert_eq!(blanks.to_string(), "https://a,wss://b:4433,ws://c");
        assert_eq!((blanks.count(), blanks.first().authority().as_str()), (3, "a"));
        assert!(blanks.are_several() && !list("https://a").are_several());
    }

    #[test]
    fn commas_in_a_path_are_the_paths() {
        let urls = |text: &str| list(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(urls("https://a/x,y"), ["https://a/x,y"]);
        assert_eq!(urls("https://a/x,y, https://b"), ["https://a/x,y", "https://b"]);
        assert_eq!(urls("https://a/x,https://b/y,z"), ["https://a/x", "https://b/y,z"]);
    }

    #[test]
    fn wrong_lists_are_refused_in_words() {
        let error = |text: &str| text.parse::<RelayUrls>().unwrap_err();
        // As without a list.
        assert_eq!(error("relay.example"), InvalidRelayUrls::One(InvalidRelayUrl::NoScheme));
        assert_eq!(error("").to_string(), "a relay URL starts with https://, quic://, wss:// or ws://");
        assert_eq!(
            error("https://a,relay.example,https://c").to_string(),
            "URL 2 of 3: a relay URL starts with https://, quic://, wss:// or ws://"
        );
        assert_eq!(
            error("https://a#pin-sha256=x,b"),
            InvalidRelayUrls::OneOf { number: 1, of: 2, error: InvalidRelayUrl::Pin }
        );
        for (text, number) in [("https://a,", 2), (",https://a", 1), ("https://a, ,https://b", 2), (",", 1)] {
            assert_eq!(error(text), InvalidRelayUrls::Empty { number }, "{text}");
        }
        for text in ["https://a,https://a:443", "https://a,https://b,quic://a/", "wss://a:4433,quic://A:4433"]
        {
            assert!(matches!(error(text), InvalidRelayUrls::Twice(_)), "{text}: {}", error(text));
        }
        assert_eq!(
            error("https://a:1,wss://a:1").to_string(),
            "the relay a:1 is named twice; https:// has both carriers already"
        );
        assert_eq!(RelayUrls::new([]).unwrap_err(), InvalidRelayUrls::Nothing);
    }

    #[test]
    fn sixteen_are_a_list_and_seventeen_are_not() {
        let named = |count: usize| {
            let urls: Vec<_> = (0..count).map(|number| format!("https://relay{number}")).collect();
            urls.join(", ").parse::<RelayUrls>()
        };
        assert_eq!(named(RelayUrls::MAX).unwrap().count(), RelayUrls::MAX);
        assert_eq!(named(RelayUrls::MAX + 1), Err(InvalidRelayUrls::TooMany));
        let long = vec![format!("https://a/{}", "x".repeat(1000)); 18].join(",");
        assert_eq!(long.parse::<RelayUrls>(), Err(InvalidRelayUrls::TooLong));
    }

    #[test]
    fn same_relay_is_found_by_its_place() {
        let relays = list("https://a:1/x,ws://b");
        let find = |url: &str| relays.find(&url.parse().unwrap()).map(ToString::to_string);
        assert_eq!(find("quic://a:1/x").as_deref(), Some("https://a:1/x"));
        assert_eq!(find("ws://b:80").as_deref(), Some("ws://b"));
        for other in ["https://a:1", "https://a/x", "ws://a:1/x", "https://b"] {
            assert_eq!(find(other), None, "{other}");
        }
        assert_eq!(relays.with_carriers(CarrierChoice::Quic).to_string(), "quic://a:1/x,ws://b");
    }
}

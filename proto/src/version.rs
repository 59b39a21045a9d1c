//! Protocol versions and the tokens under which each carrier agrees on one before the first frame.

/// Every version this build speaks, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// The first version.
    V1,
}

impl ProtocolVersion {
    /// All versions, the oldest first.
    pub const ALL: &[Self] = &[Self::V1];
    /// The version that is offered first.
    pub const NEWEST: Self = Self::V1;

    /// The ALPN protocol name on QUIC ([RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)).
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::V1 => b"converge/1",
        }
    }

    /// The value in `Sec-WebSocket-Protocol` ([RFC 6455 section 1.9](https://www.rfc-editor.org/rfc/rfc6455#section-1.9)).
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::V1 => "converge.1",
        }
    }

    /// The version a subprotocol names.
    pub fn from_subprotocol(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|version| version.subprotocol() == text)
    }

    /// The versions of this build in words, for `--version` and for messages.
    pub fn list() -> String {
        Self::ALL.iter().map(|version| version.subprotocol()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_complete_and_in_order() {
        assert!(ProtocolVersion::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ProtocolVersion::ALL.last(), Some(&ProtocolVersion::NEWEST));
        for version in ProtocolVersion::ALL {
            assert_eq!(ProtocolVersion::from_subprotocol(version.subprotocol()), Some(*version));
        }
        assert_eq!(ProtocolVersion::from_subprotocol("converge.0"), None);
    }
}

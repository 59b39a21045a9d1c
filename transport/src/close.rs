//! How links and streams end, as both carriers say it.

use converge_proto::{frame::FrameError, rendezvous::RefusalCode, rendezvous::messages::Line};
use std::fmt;

/// Why a side closed a link: the application error code on QUIC (RFC 9000 section 20.2), 4000 more on WebSocket
/// (RFC 6455 section 7.4.2). Open: unknown numbers survive and print as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $number:literal $constant:ident $words:literal),* $(,)?) => {
        impl CloseCode {
            $($(#[$doc])* pub const $constant: Self = Self($number);)*

            /// Every code that has a name, in order, in words.
            pub const KNOWN: &[(Self, &str)] = &[$((Self::$constant, $words)),*];
        }
    };
}

codes! {
    /// Everything is said.
    0 DONE "done",
    /// The peer broke a rule; the reason says which.
    1 PROTOCOL_VIOLATION "protocol violation",
    /// A newer link of the same host key holds the ID now.
    2 REPLACED "replaced by a newer link of the same agent",
    /// The relay stops.
    3 STOPPING "the relay is stopping",
    /// Nothing was heard for too long.
    4 SILENT "nothing was heard for too long",
    /// A limit is reached.
    5 LIMIT "a limit is reached",
    /// No common protocol version.
    6 UNSUPPORTED_VERSION "no common protocol version",
    /// The closing side failed.
    7 INTERNAL "internal error",
    /// The peer has shown nothing that lets it in.
    8 NOT_ALLOWED "not allowed",
}

impl CloseCode {
    /// What is added on WebSocket, into the range for private use.
    const WEBSOCKET_BASE: u16 = 4000;

    /// The WebSocket status code.
    pub fn to_websocket(self) -> u16 {
        u16::try_from(self.0).ok().and_then(|code| code.checked_add(Self::WEBSOCKET_BASE)).unwrap_or(u16::MAX)
    }

    /// The code behind a WebSocket status code of the private range; a protocol's own codes have none.
    pub fn from_websocket(status: u16) -> Option<Self> {
        status.checked_sub(Self::WEBSOCKET_BASE).map(|code| Self(code.into()))
    }
}

/// What a whole link, or a WebSocket that is one stream, is closed with when its peer is refused.
impl From<RefusalCode> for CloseCode {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::PROTOCOL_VIOLATION | RefusalCode::BAD_PROOF | RefusalCode::UNSUPPORTED => {
                Self::PROTOCOL_VIOLATION
            }
            RefusalCode::UNAUTHORIZED | RefusalCode::FORBIDDEN => Self::NOT_ALLOWED,
            RefusalCode::LIMIT => Self::LIMIT,
            RefusalCode::STOPPING => Self::STOPPING,
            _ => Self::INTERNAL,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _)| known == self) {
            Some((_, words)) => f.write_str(words),
            None => write!(f, "close code {}", self.0),
        }
    }
}

/// Why a link is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it and said why.
    #[error("closed by the other side: {}", with_reason(*code, reason))]
    ClosedByPeer {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people; often empty.
        reason: Line,
    },
    /// This side closed it.
    #[error("closed")]
    ClosedHere,
    /// The peer has not been heard for too long.
    #[error("the other side has gone silent")]
    Silent,
    /// The peer has lost all memory of the link: it was started again (QUIC's stateless reset).
    #[error("the other side was restarted and knows this link no more")]
    Restarted,
    /// The carrier failed in its own way.
    #[error("{0}")]
    Broken(String),
}

fn with_reason(code: CloseCode, reason: &Line) -> String {
    if reason.as_str().is_empty() { code.to_string() } else { format!("{code} ({reason})") }
}

/// Why a stream did not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave the stream up.
    #[error("the stream was reset: {0}")]
    Reset(RefusalCode),
    /// The peer sent a WebSocket text message; bytes travel in binary ones.
    #[error(
        "a WebSocket text message came; session bytes must be sent as binary messages (websocat: --binary)"
    )]
    TextMessage,
    /// Something that is not a frame, or not the right one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    EndInsideFrame,
    /// The link below ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl StreamError {
    pub(crate) fn broken(error: &impl ToString) -> Self {
        Self::Link(LinkError::Broken(error.to_string()))
    }
}

impl From<StreamError> for std::io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Reset(_) => std::io::ErrorKind::ConnectionReset,
            StreamError::TextMessage | StreamError::Frame(_) => std::io::ErrorKind::InvalidData,
            StreamError::EndInsideFrame => std::io::ErrorKind::UnexpectedEof,
            StreamError::Link(LinkError::Silent) => std::io::ErrorKind::TimedOut,
            StreamError::Link(_) => std::io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_once_in_order_and_survive_websocket() {
        assert!(CloseCode::KNOWN.windows(2).all(|pair| pair[0].0.0 < pair[1].0.0));
        for (code, _) in CloseCode::KNOWN {
            assert_eq!(CloseCode::from_websocket(code.to_websocket()), Some(*code));
        }
        assert_eq!(CloseCode::from_websocket(1000), None);
    }
}

//! Which ways are compared, and what is expected of each.

use super::Measure;
use crate::{Carrier, bench::goal::Goal};

/// One way for bytes to get from here to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// OpenSSH's own server, with the cipher that OpenSSH takes by itself.
    FirstCipher,
    /// The same with the cipher that `converge ssh` asks for.
    Direct,
    /// An agent, through a relay.
    OneRelay(Carrier),
    /// An agent at another relay than the client.
    TwoRelays(Carrier),
    /// As [`Direct`](Self::Direct), with packets as small as on most paths.
    DirectSmallPackets,
    /// Over QUIC through a relay, with packets as small as on most paths.
    QuicSmallPackets,
}

impl Way {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::FirstCipher,
        Self::Direct,
        Self::OneRelay(Carrier::Quic),
        Self::OneRelay(Carrier::WebSocket),
        Self::TwoRelays(Carrier::Quic),
        Self::TwoRelays(Carrier::WebSocket),
        Self::DirectSmallPackets,
        Self::QuicSmallPackets,
    ];

    /// As the table calls it.
    pub fn name(self) -> String {
        match self {
            Self::FirstCipher => "direct, OpenSSH's first cipher".to_owned(),
            Self::Direct => "direct, aes128-gcm".to_owned(),
            Self::OneRelay(carrier) => format!("converge, {carrier}"),
            Self::TwoRelays(carrier) => format!("converge, {carrier}, two relays"),
            Self::DirectSmallPackets => "direct, aes128-gcm, MTU 1500".to_owned(),
            Self::QuicSmallPackets => "converge, quic, MTU 1500".to_owned(),
        }
    }

    /// Whether it runs over a loopback device with an MTU of 1500 instead of this machine's own.
    pub fn has_small_packets(self) -> bool {
        matches!(self, Self::DirectSmallPackets | Self::QuicSmallPackets)
    }

    /// The direct way over the same device: what its speed is a ratio of.
    #[must_use]
    pub fn direct(self) -> Self {
        if self.has_small_packets() { Self::DirectSmallPackets } else { Self::Direct }
    }

    /// What the speed should be, as a ratio to that of the [direct](Self::direct) way.
    pub fn ratio_goal(self, measure: Measure) -> Option<Goal> {
        if !measure.is_transfer() {
            return None;
        }
        match self {
            Self::OneRelay(Carrier::Quic) => Some(Goal::AtLeast(1.0)),
            Self::OneRelay(Carrier::WebSocket) => Some(Goal::AtLeast(0.9)),
            Self::QuicSmallPackets => Some(Goal::AtLeast(0.75)),
            Self::FirstCipher | Self::Direct | Self::DirectSmallPackets | Self::TwoRelays(_) => None,
        }
    }

    /// What the relay may spend, in CPU seconds per GiB.
    pub fn cpu_goal(self) -> Option<Goal> {
        match self {
            Self::OneRelay(Carrier::WebSocket) => Some(Goal::AtMost(1.2)),
            Self::QuicSmallPackets => Some(Goal::AtMost(1.5)),
            _ => None,
        }
    }
}

//! What the lab's internet has to know about a packet, and what it says when it refuses one.

use etherparse::{
    Icmpv4Type, IpNumber, Ipv4HeaderSlice, PacketBuilder, icmpv4::DestUnreachableHeader as Unreachable,
};
use std::net::Ipv4Addr;

/// Hops that an answer may take; the usual number.
const TIME_TO_LIVE: u8 = 64;
/// An ICMP error carries the header of the packet it is about, and as many bytes after it (RFC 792).
const QUOTED_PAYLOAD_BYTES: usize = 8;

/// The facts about an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) is_udp: bool,
    /// Whether it must arrive in one piece.
    pub(super) whole: bool,
    header_bytes: usize,
}

impl<'a> Packet<'a> {
    /// Reads them. `None` is anything but IPv4.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        Some(Self {
            bytes,
            source: header.source_addr(),
            destination: header.destination_addr(),
            is_udp: header.protocol() == IpNumber::UDP,
            whole: header.dont_fragment(),
            header_bytes: header.slice().len(),
        })
    }
}

/// Why a packet is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As a host says it where nobody listens.
    PortUnreachable,
    /// As a firewall says it.
    Prohibited,
    /// The packet is longer than this and must not be cut.
    TooLong { mtu: u16 },
}

impl Refusal {
    /// The ICMP packet that says so to the sender. Who says it does not matter to the sender: the other end does.
    pub(super) fn answer(self, packet: &Packet<'_>) -> Vec<u8> {
        let unreachable = match self {
            Self::PortUnreachable => Unreachable::Port,
            Self::Prohibited => Unreachable::FilterProhibited,
            Self::TooLong { mtu } => Unreachable::FragmentationNeeded { next_hop_mtu: mtu },
        };
        let quoted = (packet.header_bytes + QUOTED_PAYLOAD_BYTES).min(packet.bytes.len());
        let builder = PacketBuilder::ipv4(packet.destination.octets(), packet.source.octets(), TIME_TO_LIVE)
            .icmpv4(Icmpv4Type::DestinationUnreachable(unreachable));
        let mut answer = Vec::with_capacity(builder.size(quoted));
        let written = builder.write(&mut answer, &packet.bytes[..quoted]);
        written.expect("28 to 68 bytes are a payload, and a vector takes them");
        answer
    }
}

//! Replies: what the server says, and how that becomes a packet.

use bytes::BufMut;

use super::{
    attrs::Attrs,
    block::Block,
    extension::ADVERTISED,
    failure::Failure,
    handles::HandleId,
    wire::{self, PacketType, Status, put_string},
};

/// Length prefix, packet type, request number and length of the content in a `DATA` packet.
const DATA_HEADER_BYTES: usize = 4 + 1 + 4 + 4;

/// An answer to a request, or to the opening.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    Failed(Failure),
    Handle(HandleId),
    Data(Data),
    Names(Vec<Entry>),
    Attrs(Attrs),
    Extended(Vec<u8>),
}

/// One entry of a `NAME` reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) long_name: Vec<u8>,
    pub(super) attrs: Attrs,
}

impl Entry {
    /// The answer to a question about a path: no attributes, and twice the path.
    pub(super) fn path(path: Vec<u8>) -> Self {
        Self { long_name: path.clone(), name: path, attrs: Attrs::default() }
    }
}

/// File content that lies where it will be sent from, with room for the header in front.
#[derive(Debug)]
pub(super) struct Data {
    block: Block,
    content_bytes: u32,
}

impl Data {
    /// How long a block must be for this much content.
    pub(super) const fn block_bytes(content_bytes: u32) -> usize {
        DATA_HEADER_BYTES + content_bytes as usize
    }

    /// Lets `fill` write at most `limit` bytes of content and say how many they are.
    pub(super) fn read<E>(
        mut block: Block,
        limit: u32,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let content = block.get_mut(DATA_HEADER_BYTES..Self::block_bytes(limit)).unwrap_or_default();
        let filled = fill(content)?;
        Ok(Self { block, content_bytes: u32::try_from(filled).map_or(limit, |filled| filled.min(limit)) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.content_bytes == 0
    }
}

/// A packet ready to be written, its length prefix included.
#[derive(Debug)]
pub(super) enum Packet {
    Plain(Vec<u8>),
    Data { block: Block, packet_bytes: usize },
}

impl Packet {
    /// The answer to `INIT`: the version and every extension.
    pub(super) fn version() -> Self {
        let mut out = Vec::with_capacity(512);
        out.put_u32(0);
        out.put_u8(PacketType::VERSION.0);
        out.put_u32(wire::VERSION);
        for (name, version) in ADVERTISED {
            put_string(&mut out, name.as_bytes());
            put_string(&mut out, version.as_bytes());
        }
        Self::with_length(out)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Data { block, packet_bytes } => block.get(..*packet_bytes).unwrap_or_default(),
        }
    }

    /// The memory the packet holds until it is written.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.capacity(),
            Self::Data { block, .. } => block.len(),
        }
    }

    /// Puts the length in front, where four bytes were left for it.
    fn with_length(mut out: Vec<u8>) -> Self {
        let length = u32::try_from(out.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(prefix) = out.first_chunk_mut() {
            *prefix = length.to_be_bytes();
        }
        Self::Plain(out)
    }
}

impl Reply {
    pub(super) fn into_packet(self, id: u32) -> Packet {
        let mut out = Vec::with_capacity(64);
        let mut begin = |packet_type: PacketType| {
            out.put_u32(0);
            out.put_u8(packet_type.0);
            out.put_u32(id);
        };
        match self {
            Self::Data(data) => return data.into_packet(id),
            Self::Done => {
                begin(PacketType::STATUS);
                put_status(&mut out, Status::OK, "success");
            }
            Self::Failed(failure) => {
                begin(PacketType::STATUS);
                put_status(&mut out, failure.status, &failure.message);
            }
            Self::Handle(handle) => {
                begin(PacketType::HANDLE);
                put_string(&mut out, &handle.to_bytes());
            }
            Self::Names(names) => {
                begin(PacketType::NAME);
                out.put_u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
                for entry in names {
                    put_string(&mut out, &entry.name);
                    put_string(&mut out, &entry.long_name);
                    entry.attrs.encode(&mut out);
                }
            }
            Self::Attrs(attrs) => {
                begin(PacketType::ATTRS);
                attrs.encode(&mut out);
            }
            Self::Extended(body) => {
                begin(PacketType::EXTENDED_REPLY);
                out.extend_from_slice(&body);
            }
        }
        Packet::with_length(out)
    }
}

impl Data {
    fn into_packet(mut self, id: u32) -> Packet {
        let mut header = [0; DATA_HEADER_BYTES];
        let mut fields = header.as_mut_slice();
        fields.put_u32(1 + 4 + 4 + self.content_bytes);
        fields.put_u8(PacketType::DATA.0);
        fields.put_u32(id);
        fields.put_u32(self.content_bytes);
        if let Some(front) = self.block.first_chunk_mut() {
            *front = header;
        }
        Packet::Data { block: self.block, packet_bytes: Self::block_bytes(self.content_bytes) }
    }
}

fn put_status(out: &mut Vec<u8>, status: Status, message: &str) {
    out.put_u32(status.0);
    put_string(out, message.as_bytes());
    // The language of the message, which nobody reads.
    put_string(out, b"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_number_code_and_words() {
        let packet = Reply::Failed(Failure::EOF).into_packet(0x0102_0304);
        assert_eq!(packet.bytes(), b"\0\0\0\x1c\x65\x01\x02\x03\x04\0\0\0\x01\0\0\0\x0bend of file\0\0\0\0");
    }

    #[test]
    fn data_is_sent_from_where_it_was_read() {
        let data = Data::read(Block::zeroed(Data::block_bytes(8)), 8, |content| {
            assert_eq!(content.len(), 8);
            content[..3].copy_from_slice(b"abc");
            Ok::<_, ()>(3)
        });
        let packet = Reply::Data(data.unwrap()).into_packet(7);
        assert_eq!(packet.bytes(), b"\0\0\0\x0c\x67\0\0\0\x07\0\0\0\x03abc");
    }

    #[test]
    fn the_version_packet_lists_every_extension() {
        let packet = Packet::version();
        let mut fields = wire::Fields::new(packet.bytes().to_vec().into());
        assert_eq!(fields.uint32("length"), Ok(u32::try_from(packet.bytes().len() - 4).unwrap()));
        assert_eq!(fields.byte("type"), Ok(2));
        assert_eq!(fields.uint32("version"), Ok(3));
        for (name, version) in ADVERTISED {
            assert_eq!(fields.string("name").unwrap(), name);
            assert_eq!(fields.string("version").unwrap(), version);
        }
        assert!(fields.is_empty());
    }
}

//! Requests: what a client can ask for, and how that is read from a packet.
//!
//! Bytes behind the last known field are ignored, as OpenSSH's server does: clients have been seen to append some,
//! and later revisions of the draft append fields.

use bytes::Bytes;

use super::{
    attrs::Attrs,
    extension::{self, ExtendedRequest},
    wire::{DecodeError, Fields, OpenFlags, PacketType},
};

/// A packet from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The opening, which has no request number.
    Init {
        version: u32,
    },
    Request {
        id: u32,
        request: Request,
    },
    /// A packet with a request number, so that it can be refused and the next one be read.
    Malformed {
        id: u32,
        error: DecodeError,
    },
}

/// One request. Paths, handles and contents share the memory of the packet they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Open { path: Bytes, flags: OpenFlags, attrs: Attrs },
    Close { handle: Bytes },
    Read { handle: Bytes, offset: u64, length: u32 },
    Write { handle: Bytes, offset: u64, data: Bytes },
    Lstat { path: Bytes },
    Fstat { handle: Bytes },
    Setstat { path: Bytes, attrs: Attrs },
    Fsetstat { handle: Bytes, attrs: Attrs },
    Opendir { path: Bytes },
    Readdir { handle: Bytes },
    Remove { path: Bytes },
    Mkdir { path: Bytes, attrs: Attrs },
    Rmdir { path: Bytes },
    Realpath { path: Bytes },
    Stat { path: Bytes },
    Rename { from: Bytes, to: Bytes },
    Readlink { path: Bytes },
    Symlink { target: Bytes, link: Bytes },
    Extended(ExtendedRequest),
    Unknown { packet_type: PacketType },
}

impl Incoming {
    /// Reads one packet, without its length prefix. An error means that not even the request number is there.
    pub(super) fn decode(packet: Bytes) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(packet);
        let packet_type = PacketType(fields.byte("packet type")?);
        if packet_type == PacketType::INIT {
            // A client's extension pairs follow; none is known that asks for anything.
            return Ok(Self::Init { version: fields.uint32("version")? });
        }
        let id = fields.uint32("request number")?;
        Ok(match Request::decode(packet_type, &mut fields) {
            Ok(request) => Self::Request { id, request },
            Err(error) => Self::Malformed { id, error },
        })
    }
}

impl Request {
    /// Whether it would change something outside the session if it succeeded.
    pub(super) fn is_change(&self) -> bool {
        match self {
            // Opening for reading changes nothing, unless it creates or empties the file.
            Self::Open { flags, .. } => *flags != OpenFlags::READ,
            Self::Write { .. }
            | Self::Setstat { .. }
            | Self::Fsetstat { .. }
            | Self::Remove { .. }
            | Self::Mkdir { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::Symlink { .. } => true,
            Self::Close { .. }
            | Self::Read { .. }
            | Self::Lstat { .. }
            | Self::Fstat { .. }
            | Self::Opendir { .. }
            | Self::Readdir { .. }
            | Self::Realpath { .. }
            | Self::Stat { .. }
            | Self::Readlink { .. }
            | Self::Unknown { .. } => false,
            Self::Extended(request) => request.is_change(),
        }
    }

    fn decode(packet_type: PacketType, fields: &mut Fields) -> Result<Self, DecodeError> {
        Ok(match packet_type {
            PacketType::OPEN => Self::Open {
                path: fields.string("path")?,
                flags: OpenFlags(fields.uint32("open flags")?),
                attrs: Attrs::decode(fields)?,
            },
            PacketType::CLOSE => Self::Close { handle: fields.string("handle")? },
            PacketType::READ => Self::Read {
                handle: fields.string("handle")?,
                offset: fields.uint64("offset")?,
                length: fields.uint32("length")?,
            },
            PacketType::WRITE => Self::Write {
                handle: fields.string("handle")?,
                offset: fields.uint64("offset")?,
                data: fields.string("data")?,
            },
            PacketType::LSTAT => Self::Lstat { path: fields.string("path")? },
            PacketType::FSTAT => Self::Fstat { handle: fields.string("handle")? },
            PacketType::SETSTAT => {
                Self::Setstat { path: fields.string("path")?, attrs: Attrs::decode(fields)? }
            }
            PacketType::FSETSTAT => {
                Self::Fsetstat { handle: fields.string("handle")?, attrs: Attrs::decode(fields)? }
            }
            PacketType::OPENDIR => Self::Opendir { path: fields.string("path")? },
            PacketType::READDIR => Self::Readdir { handle: fields.string("handle")? },
            PacketType::REMOVE => Self::Remove { path: fields.string("path")? },
            PacketType::MKDIR => Self::Mkdir { path: fields.string("path")?, attrs: Attrs::decode(fields)? },
            PacketType::RMDIR => Self::Rmdir { path: fields.string("path")? },
            PacketType::REALPATH => Self::Realpath { path: fields.string("path")? },
            PacketType::STAT => Self::Stat { path: fields.string("path")? },
            PacketType::RENAME => {
                Self::Rename { from: fields.string("old path")?, to: fields.string("new path")? }
            }
            PacketType::READLINK => Self::Readlink { path: fields.string("path")? },
            PacketType::SYMLINK => {
                Self::Symlink { target: fields.string("target path")?, link: fields.string("link path")? }
            }
            PacketType::EXTENDED => extension::decode(fields)?,
            packet_type => Self::Unknown { packet_type },
        })
    }
}

#[cfg(test)]
pub(super) mod tests;

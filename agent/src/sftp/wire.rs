//! The numbers of SFTP version 3 and the few shapes all its packets are made of.
//!
//! Format: [draft-ietf-secsh-filexfer-02](https://www.openssh.com/txt/draft-ietf-secsh-filexfer-02.txt), sections
//! 3 to 7. Integers are big-endian; a string is its length (`uint32`) and as many arbitrary bytes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

/// The protocol version spoken here, which is the only one OpenSSH speaks.
pub(super) const VERSION: u32 = 3;

/// The longest packet in either direction, without its length prefix: OpenSSH's `SFTP_MAX_MSG_LENGTH`.
pub(super) const MAX_PACKET_BYTES: u32 = 256 * 1024;

/// The most file content in one `READ` or `WRITE`: the longest packet less the kilobyte OpenSSH keeps for the rest.
pub(super) const MAX_DATA_BYTES: u32 = MAX_PACKET_BYTES - 1024;

/// The first byte of a packet. Numbers without a constant are requests nobody here knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketType(pub(super) u8);

impl PacketType {
    /// Both directions' opening: client to server, `uint32 version`, then extension pairs.
    pub(super) const INIT: Self = Self(1);
    /// Server to client: `uint32 version`, then pairs of extension name and version.
    pub(super) const VERSION: Self = Self(2);
    /// `string path · uint32 flags · ATTRS`
    pub(super) const OPEN: Self = Self(3);
    /// `string handle`
    pub(super) const CLOSE: Self = Self(4);
    /// `string handle · uint64 offset · uint32 length`
    pub(super) const READ: Self = Self(5);
    /// `string handle · uint64 offset · string data`
    pub(super) const WRITE: Self = Self(6);
    /// `string path`; a symbolic link is not followed
    pub(super) const LSTAT: Self = Self(7);
    /// `string handle`
    pub(super) const FSTAT: Self = Self(8);
    /// `string path · ATTRS`
    pub(super) const SETSTAT: Self = Self(9);
    /// `string handle · ATTRS`
    pub(super) const FSETSTAT: Self = Self(10);
    /// `string path`
    pub(super) const OPENDIR: Self = Self(11);
    /// `string handle`
    pub(super) const READDIR: Self = Self(12);
    /// `string path`
    pub(super) const REMOVE: Self = Self(13);
    /// `string path · ATTRS`
    pub(super) const MKDIR: Self = Self(14);
    /// `string path`
    pub(super) const RMDIR: Self = Self(15);
    /// `string path`
    pub(super) const REALPATH: Self = Self(16);
    /// `string path`; symbolic links are followed
    pub(super) const STAT: Self = Self(17);
    /// `string old path · string new path`
    pub(super) const RENAME: Self = Self(18);
    /// `string path`
    pub(super) const READLINK: Self = Self(19);
    /// `string target · string link`: the draft has them the other way round, OpenSSH and so everybody this way
    pub(super) const SYMLINK: Self = Self(20);
    /// Server to client: `uint32 status · string message · string language`
    pub(super) const STATUS: Self = Self(101);
    /// Server to client: `string handle`
    pub(super) const HANDLE: Self = Self(102);
    /// Server to client: `string data`
    pub(super) const DATA: Self = Self(103);
    /// Server to client: `uint32 count`, then as many of `string name · string long name · ATTRS`
    pub(super) const NAME: Self = Self(104);
    /// Server to client: `ATTRS`
    pub(super) const ATTRS: Self = Self(105);
    /// `string extension name`, then what the extension defines
    pub(super) const EXTENDED: Self = Self(200);
    /// Server to client: what the extension defines
    pub(super) const EXTENDED_REPLY: Self = Self(201);
}

impl fmt::Debug for PacketType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#04x}", self.0)
    }
}

/// The result code of a `STATUS` reply; version 3 has no finer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    pub(super) const OK: Self = Self(0);
    pub(super) const EOF: Self = Self(1);
    pub(super) const NO_SUCH_FILE: Self = Self(2);
    pub(super) const PERMISSION_DENIED: Self = Self(3);
    pub(super) const FAILURE: Self = Self(4);
    pub(super) const BAD_MESSAGE: Self = Self(5);
    pub(super) const OP_UNSUPPORTED: Self = Self(8);
}

/// How a file is to be opened: the `pflags` of `OPEN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFlags(pub(super) u32);

impl OpenFlags {
    pub(super) const READ: Self = Self(0x01);
    pub(super) const WRITE: Self = Self(0x02);
    pub(super) const APPEND: Self = Self(0x04);
    pub(super) const CREATE: Self = Self(0x08);
    pub(super) const TRUNCATE: Self = Self(0x10);
    pub(super) const EXCLUSIVE: Self = Self(0x20);

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What makes a packet unreadable.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The packet ends before one of its fields does.
    #[error("the packet ends inside its {field}")]
    Truncated {
        /// The field that is cut short.
        field: &'static str,
    },
    /// The name of an extended request is not text, so it is none that exists.
    #[error("the name of the extended request is not text")]
    ExtensionName,
}

/// Takes fields from the front of a packet. What it hands out shares the packet's memory.
#[derive(Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn new(packet: Bytes) -> Self {
        Self(packet)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn uint32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.0.try_get_u32().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn uint64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.0.try_get_u64().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn string(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.uint32(field)?;
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(DecodeError::Truncated { field }),
        }
    }
}

/// Appends a string field.
///
/// A string beyond 4 GiB is cut; no caller has one, since every packet is bounded long before.
pub(super) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.extend(string.iter().take(length as usize));
}

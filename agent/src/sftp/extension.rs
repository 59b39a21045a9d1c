//! Extended requests: OpenSSH's additions to version 3, as its `PROTOCOL` file (section 3) and
//! draft-ietf-secsh-filexfer-extensions-00 describe them.

use bytes::{Buf, Bytes};

use super::{
    attrs::Attrs,
    request::Request,
    wire::{DecodeError, Fields},
};

/// An extended request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExtendedRequest {
    PosixRename { from: Bytes, to: Bytes },
    Statvfs { path: Bytes },
    Fstatvfs { handle: Bytes },
    Hardlink { target: Bytes, link: Bytes },
    Fsync { handle: Bytes },
    Lsetstat { path: Bytes, attrs: Attrs },
    Limits,
    ExpandPath { path: Bytes },
    CopyData(CopyData),
    HomeDirectory { user: Bytes },
    UsersGroupsById { uids: Vec<u32>, gids: Vec<u32> },
    Unknown,
}

impl ExtendedRequest {
    /// Whether it would change something outside the session if it succeeded.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::PosixRename { .. }
            | Self::Hardlink { .. }
            | Self::Fsync { .. }
            | Self::Lsetstat { .. }
            | Self::CopyData(_) => true,
            Self::Statvfs { .. }
            | Self::Fstatvfs { .. }
            | Self::Limits
            | Self::ExpandPath { .. }
            | Self::HomeDirectory { .. }
            | Self::UsersGroupsById { .. }
            | Self::Unknown => false,
        }
    }
}

/// Which bytes of one open file are to be put where in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyData {
    pub(super) from: Bytes,
    pub(super) from_offset: u64,
    /// 0 means up to the end of the file.
    pub(super) length: u64,
    pub(super) to: Bytes,
    pub(super) to_offset: u64,
}

pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
pub(super) const STATVFS: &str = "statvfs@openssh.com";
pub(super) const FSTATVFS: &str = "fstatvfs@openssh.com";
pub(super) const HARDLINK: &str = "hardlink@openssh.com";
pub(super) const FSYNC: &str = "fsync@openssh.com";
pub(super) const LSETSTAT: &str = "lsetstat@openssh.com";
pub(super) const LIMITS: &str = "limits@openssh.com";
pub(super) const EXPAND_PATH: &str = "expand-path@openssh.com";
pub(super) const COPY_DATA: &str = "copy-data";
pub(super) const HOME_DIRECTORY: &str = "home-directory";
pub(super) const USERS_GROUPS_BY_ID: &str = "users-groups-by-id@openssh.com";

/// Name and version of every extension, as the `VERSION` packet tells the client.
pub(super) const ADVERTISED: [(&str, &str); 11] = [
    (POSIX_RENAME, "1"),
    (STATVFS, "2"),
    (FSTATVFS, "2"),
    (HARDLINK, "1"),
    (FSYNC, "1"),
    (LSETSTAT, "1"),
    (LIMITS, "1"),
    (EXPAND_PATH, "1"),
    (COPY_DATA, "1"),
    (HOME_DIRECTORY, "1"),
    (USERS_GROUPS_BY_ID, "1"),
];

/// Reads what follows the request number of an `EXTENDED` packet.
pub(super) fn decode(fields: &mut Fields) -> Result<Request, DecodeError> {
    let name = fields.string("extension name")?;
    let name = std::str::from_utf8(&name).map_err(|_| DecodeError::ExtensionName)?;
    Ok(Request::Extended(match name {
        POSIX_RENAME => {
            ExtendedRequest::PosixRename { from: fields.string("old path")?, to: fields.string("new path")? }
        }
        STATVFS => ExtendedRequest::Statvfs { path: fields.string("path")? },
        FSTATVFS => ExtendedRequest::Fstatvfs { handle: fields.string("handle")? },
        HARDLINK => {
            ExtendedRequest::Hardlink { target: fields.string("old path")?, link: fields.string("new path")? }
        }
        FSYNC => ExtendedRequest::Fsync { handle: fields.string("handle")? },
        LSETSTAT => ExtendedRequest::Lsetstat { path: fields.string("path")?, attrs: Attrs::decode(fields)? },
        LIMITS => ExtendedRequest::Limits,
        EXPAND_PATH => ExtendedRequest::ExpandPath { path: fields.string("path")? },
        COPY_DATA => ExtendedRequest::CopyData(CopyData {
            from: fields.string("source handle")?,
            from_offset: fields.uint64("source offset")?,
            length: fields.uint64("length")?,
            to: fields.string("target handle")?,
            to_offset: fields.uint64("target offset")?,
        }),
        HOME_DIRECTORY => ExtendedRequest::HomeDirectory { user: fields.string("user name")? },
        USERS_GROUPS_BY_ID => ExtendedRequest::UsersGroupsById {
            uids: numbers(fields.string("uids")?, "uids")?,
            gids: numbers(fields.string("gids")?, "gids")?,
        },
        _ => ExtendedRequest::Unknown,
    }))
}

/// The numbers that a string field holds one after the other.
fn numbers(mut string: Bytes, field: &'static str) -> Result<Vec<u32>, DecodeError> {
    let mut numbers = Vec::with_capacity(string.len() / size_of::<u32>());
    while string.has_remaining() {
        numbers.push(string.try_get_u32().map_err(|_| DecodeError::Truncated { field })?);
    }
    Ok(numbers)
}

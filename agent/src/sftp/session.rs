//! One client's state, and how each request changes it. Everything here may block.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes};

use super::{
    accounts::Accounts,
    attrs::Attrs,
    block::{Block, BlockPool},
    extension::{CopyData, ExtendedRequest},
    failure::Failure,
    handles::{Handle, Handles, OpenFile, WritePosition},
    long_name::long_name,
    paths::{self, Root},
    reply::{Data, Entry, Reply},
    request::Request,
    system::{self, Directory},
    wire::{MAX_DATA_BYTES, MAX_PACKET_BYTES, OpenFlags, put_string},
};

/// A `READDIR` reply ends after so many entries or bytes, whichever is first. OpenSSH sends a hundred entries; the
/// bytes keep long names within the 34000 that the draft asks every client to take.
const READDIR_ENTRIES: usize = 100;
const READDIR_BYTES: usize = 32_000;

/// Shorter reads get a buffer of their own length, longer ones one that is used again and again.
const SHORT_READ_BYTES: u32 = 32 * 1024;

/// The greatest offset a file can have.
const MAX_OFFSET: u64 = i64::MAX.cast_unsigned();

/// Executes requests one by one.
#[derive(Debug)]
pub(super) struct Session {
    root: Root,
    handles: Handles,
    accounts: Accounts,
    blocks: Arc<BlockPool>,
    /// Set when nobody waits for replies any more.
    stopped: Arc<AtomicBool>,
    read_only: bool,
}

impl Session {
    pub(super) fn new(root: Root, handle_limit: usize, stopped: Arc<AtomicBool>) -> Self {
        Self {
            root,
            handles: Handles::new(handle_limit),
            accounts: Accounts::default(),
            blocks: BlockPool::new(Data::block_bytes(MAX_DATA_BYTES)),
            stopped,
            read_only: false,
        }
    }

    /// Whether to refuse whatever would change something.
    pub(super) fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    pub(super) fn execute(&mut self, request: Request) -> Reply {
        if self.read_only && request.is_change() {
            return Reply::Failed(Failure::READ_ONLY);
        }
        self.try_execute(request).unwrap_or_else(Reply::Failed)
    }

    fn try_execute(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Read { handle, offset, length } => self.read(&handle, offset, length),
            Request::Write { handle, offset, data } => self.write(&handle, offset, &data),
            Request::Open { path, flags, attrs } => self.open(&path, flags, &attrs),
            Request::Close { handle } => self.handles.remove(&handle).map(|_| Reply::Done),
            Request::Fstat { handle } => Ok(Reply::Attrs(self.handles.any(&handle)?.stat()?.attrs)),
            Request::Fsetstat { handle, attrs } => done(self.handles.any(&handle)?.set_attrs(&attrs)),
            Request::Opendir { path } => self.open_directory(&path),
            Request::Readdir { handle } => self.read_directory(&handle),
            Request::Lstat { path } => Ok(Reply::Attrs(system::lstat(&self.root.locate(&path)?)?.attrs)),
            Request::Stat { path } => Ok(Reply::Attrs(system::stat(&self.root.locate(&path)?)?.attrs)),
            Request::Setstat { path, attrs } => done(system::set_attrs(&self.root.locate(&path)?, &attrs)),
            Request::Remove { path } => done(std::fs::remove_file(self.root.locate(&path)?)),
            Request::Mkdir { path, attrs } => {
                done(system::make_directory(&self.root.locate(&path)?, attrs.mode.unwrap_or(0o777)))
            }
            Request::Rmdir { path } => done(std::fs::remove_dir(self.root.locate(&path)?)),
            Request::Realpath { path } => Ok(path_reply(self.root.resolve(&path)?)),
            Request::Rename { from, to } => {
                done(system::rename_to_new(&self.root.locate(&from)?, &self.root.locate(&to)?))
            }
            Request::Readlink { path } => Ok(path_reply(std::fs::read_link(self.root.locate(&path)?)?)),
            Request::Symlink { target, link } => {
                done(system::symlink(&system::path(&target)?, &self.root.locate(&link)?))
            }
            Request::Extended(request) => self.extended(request),
            Request::Unknown { packet_type } => {
                tracing::debug!(?packet_type, "unknown request");
                Err(Failure::UNSUPPORTED)
            }
        }
    }

    fn extended(&mut self, request: ExtendedRequest) -> Result<Reply, Failure> {
        match request {
            ExtendedRequest::PosixRename { from, to } => {
                done(std::fs::rename(self.root.locate(&from)?, self.root.locate(&to)?))
            }
            ExtendedRequest::Statvfs { path } => Ok(numbers(&system::statvfs(&self.root.locate(&path)?)?)),
            ExtendedRequest::Fstatvfs { handle } => Ok(numbers(&self.handles.any(&handle)?.statvfs()?)),
            ExtendedRequest::Hardlink { target, link } => {
                done(std::fs::hard_link(self.root.locate(&target)?, self.root.locate(&link)?))
            }
            ExtendedRequest::Fsync { handle } => done(self.handles.file(&handle)?.file.sync_all()),
            ExtendedRequest::Lsetstat { attrs: Attrs { size: Some(_), .. }, .. } => {
                Err(Failure::SIZE_OF_LINK)
            }
            ExtendedRequest::Lsetstat { path, attrs } => {
                done(system::set_link_attrs(&self.root.locate(&path)?, &attrs))
            }
            ExtendedRequest::Limits => {
                let handles = u64::try_from(self.handles.limit()).unwrap_or(u64::MAX);
                Ok(numbers(&[MAX_PACKET_BYTES.into(), MAX_DATA_BYTES.into(), MAX_DATA_BYTES.into(), handles]))
            }
            ExtendedRequest::ExpandPath { path } => {
                Ok(path_reply(self.root.expand(&path, &Accounts::load())?))
            }
            ExtendedRequest::CopyData(copy) => self.copy_data(&copy),
            ExtendedRequest::HomeDirectory { user } => Ok(path_reply(paths::home(&user, &Accounts::load())?)),
            ExtendedRequest::UsersGroupsById { uids, gids } => names_by_id(&uids, &gids),
            ExtendedRequest::Unknown => Err(Failure::UNSUPPORTED),
        }
    }

    fn open(&mut self, path: &Bytes, flags: OpenFlags, attrs: &Attrs) -> Result<Reply, Failure> {
        self.handles.require_room()?;
        let file = system::open(&self.root.locate(path)?, flags, attrs.mode.unwrap_or(0o666))?;
        let position =
            if flags.contains(OpenFlags::APPEND) { WritePosition::End } else { WritePosition::Given };
        self.handles.insert(Handle::File(OpenFile { file, position })).map(Reply::Handle)
    }

    /// Reads at most what fits a packet, whatever was asked for: clients ask again for the rest.
    fn read(&self, handle: &Bytes, offset: u64, length: u32) -> Result<Reply, Failure> {
        let open = self.handles.file(handle)?;
        if offset > MAX_OFFSET {
            return Err(Failure::OFFSET_RANGE);
        }
        // The system refuses a range that ends beyond the greatest offset, even where there is nothing to read.
        let room = u32::try_from(MAX_OFFSET - offset).unwrap_or(u32::MAX);
        let asked_something = length > 0;
        let length = length.min(MAX_DATA_BYTES).min(room);
        let block = if length <= SHORT_READ_BYTES {
            Block::zeroed(Data::block_bytes(length))
        } else {
            self.blocks.take()
        };
        let data = Data::read(block, length, |content| system::read_at(&open.file, content, offset))?;
        if data.is_empty() && asked_something { Err(Failure::EOF) } else { Ok(Reply::Data(data)) }
    }

    fn write(&self, handle: &Bytes, offset: u64, data: &Bytes) -> Result<Reply, Failure> {
        let open = self.handles.file(handle)?;
        done(open.write(offset, data)?)
    }

    fn open_directory(&mut self, path: &Bytes) -> Result<Reply, Failure> {
        self.handles.require_room()?;
        let directory = Directory::open(&self.root.locate(path)?)?;
        // Names are looked up while it is read; they may have changed since the last one.
        self.accounts = Accounts::load();
        self.handles.insert(Handle::Directory(directory)).map(Reply::Handle)
    }

    fn read_directory(&mut self, handle: &Bytes) -> Result<Reply, Failure> {
        let directory = self.handles.directory(handle)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut names = Vec::new();
        let mut bytes = 0;
        while names.len() < READDIR_ENTRIES && bytes < READDIR_BYTES {
            let Some(entry) = directory.next_entry() else { break };
            match entry {
                Ok((name, stat)) => {
                    let long_name = long_name(&name, &stat, &self.accounts, now);
                    bytes += name.len() + long_name.len();
                    names.push(Entry { name, long_name, attrs: stat.attrs });
                }
                // What was read before the error comes first; the next request meets it again.
                Err(_) if !names.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        if names.is_empty() { Err(Failure::EOF) } else { Ok(Reply::Names(names)) }
    }

    /// Copies between two open files, in pieces so that a session that ends need not wait for all of it.
    fn copy_data(&self, copy: &CopyData) -> Result<Reply, Failure> {
        let (from, to) = (self.handles.file(&copy.from)?, self.handles.file(&copy.to)?);
        if self.handles.any(&copy.from)?.is_same_file(self.handles.any(&copy.to)?)? {
            return Err(Failure::COPY_ONTO_ITSELF);
        }
        let mut block = self.blocks.take();
        let mut left = if copy.length == 0 { u64::MAX } else { copy.length };
        let mut copied = 0_u64;
        while left > 0 {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Failure::STOPPED);
            }
            let from_offset = offset(copy.from_offset, copied)?;
            let piece_bytes = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            let piece = block.get_mut(..piece_bytes).unwrap_or_default();
            let read = system::read_at(&from.file, piece, from_offset)?;
            if read == 0 {
                return if copy.length == 0 { Ok(Reply::Done) } else { Err(Failure::EOF) };
            }
            to.write(offset(copy.to_offset, copied)?, piece.get(..read).unwrap_or_default())??;
            copied += read as u64;
            left -= read as u64;
        }
        Ok(Reply::Done)
    }
}

impl OpenFile {
    /// Writes all of `data` where this file's writes land.
    fn write(&self, offset: u64, data: &[u8]) -> Result<std::io::Result<()>, Failure> {
        match self.position {
            WritePosition::Given if offset.saturating_add(data.len() as u64) > MAX_OFFSET => {
                Err(Failure::OFFSET_RANGE)
            }
            WritePosition::Given => Ok(system::write_at(&self.file, data, offset)),
            WritePosition::End => Ok(system::append(&self.file, data)),
        }
    }
}

fn offset(start: u64, passed: u64) -> Result<u64, Failure> {
    start.checked_add(passed).filter(|offset| *offset <= MAX_OFFSET).ok_or(Failure::OFFSET_RANGE)
}

fn done(result: std::io::Result<()>) -> Result<Reply, Failure> {
    Ok(result.map(|()| Reply::Done)?)
}

fn path_reply(path: impl AsRef<Path>) -> Reply {
    Reply::Names(vec![Entry::path(system::into_bytes(path.as_ref()))])
}

fn numbers(numbers: &[u64]) -> Reply {
    let mut body = Vec::with_capacity(size_of_val(numbers));
    for number in numbers {
        body.put_u64(*number);
    }
    Reply::Extended(body)
}

/// Two strings, each a row of strings: the names of the users and of the groups, empty for those without one.
fn names_by_id(uids: &[u32], gids: &[u32]) -> Result<Reply, Failure> {
    let accounts = Accounts::load();
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for uid in uids {
        put_string(&mut users, accounts.user(*uid).unwrap_or_default());
    }
    for gid in gids {
        put_string(&mut groups, accounts.group(*gid).unwrap_or_default());
    }
    let mut body = Vec::new();
    put_string(&mut body, &users);
    put_string(&mut body, &groups);
    if body.len() > MAX_DATA_BYTES as usize { Err(Failure::TOO_MANY_IDS) } else { Ok(Reply::Extended(body)) }
}

#[cfg(all(test, unix))]
mod tests;

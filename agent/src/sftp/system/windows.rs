//! Windows: paths as OpenSSH for Windows gives them, `/C:/dir/file`, names as UTF-8.
//!
//! There is no owner and no mode. What clients are told in their place: everybody may do everything, or only read what
//! is marked as read-only; and setting a mode without any right to write sets that mark. The size of a file system is
//! not told, and a symbolic link can be made by users who have the right to.

use std::fs::{File, FileTimes, Metadata, OpenOptions, Permissions, ReadDir};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{FileStat, drives, seconds};
use crate::sftp::{
    attrs::{Attrs, Times},
    handles::Handle,
    wire::{OpenFlags, Status},
};

/// There are no such files.
pub(in crate::sftp) const USERS_FILE: Option<&str> = None;
pub(in crate::sftp) const GROUPS_FILE: Option<&str> = None;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const ANYTHING: u32 = 0o777;
/// In a mode: somebody may write.
const WRITE: u32 = 0o222;

/// `FILE_WRITE_ATTRIBUTES`.
const WRITE_ATTRIBUTES: u32 = 0x100;
/// `FILE_FLAG_BACKUP_SEMANTICS`, without which directories cannot be opened.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// `FILE_FLAG_OPEN_REPARSE_POINT`: a link itself.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// `ERROR_PRIVILEGE_NOT_HELD`.
const PRIVILEGE_NOT_HELD: i32 = 1314;

/// The status for a system error.
pub(in crate::sftp) fn status(error: &io::Error) -> Status {
    if error.raw_os_error() == Some(PRIVILEGE_NOT_HELD) {
        return Status::PERMISSION_DENIED;
    }
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Status::NO_SUCH_FILE,
        io::ErrorKind::PermissionDenied => Status::PERMISSION_DENIED,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => Status::BAD_MESSAGE,
        io::ErrorKind::Unsupported => Status::OP_UNSUPPORTED,
        _ => Status::FAILURE,
    }
}

/// Names are Unicode here; see [`drives`].
pub(in crate::sftp) fn path(bytes: &[u8]) -> io::Result<PathBuf> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("names are UTF-8 here"))?;
    if text.contains('\0') {
        return Err(invalid("there is a NUL in the path"));
    }
    Ok(drives::to_windows(text).into())
}

/// The other way round. What is not Unicode is replaced, and cannot be opened under that name.
pub(in crate::sftp) fn into_bytes(path: impl AsRef<Path>) -> Vec<u8> {
    drives::from_windows(&path.as_ref().to_string_lossy()).into_bytes()
}

/// What the system would say after following too many links.
pub(in crate::sftp) fn too_many_links() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "too many symbolic links")
}

/// There is no limit that a session would reach.
pub(in crate::sftp) fn open_file_limit() -> usize {
    usize::MAX
}

/// Opens a file; the mode of a new one means nothing here.
pub(in crate::sftp) fn open(path: &Path, flags: OpenFlags, _mode: u32) -> io::Result<File> {
    let (writes, appends) = (flags.contains(OpenFlags::WRITE), flags.contains(OpenFlags::APPEND));
    let creates = writes && flags.contains(OpenFlags::CREATE);
    let truncates = writes && flags.contains(OpenFlags::TRUNCATE);
    let mut options = OpenOptions::new();
    options
        .read(flags.contains(OpenFlags::READ) || !writes)
        .write(writes && !appends)
        .append(writes && appends)
        .create(creates)
        .create_new(creates && flags.contains(OpenFlags::EXCLUSIVE));
    let file = options.truncate(truncates && !appends).open(path)?;
    if truncates && appends {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Reads at an offset; short only at the end of a file.
pub(in crate::sftp) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

pub(in crate::sftp) fn write_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        let count = file.seek_write(data, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data = data.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

/// Writes to the end of a file opened for appending.
pub(in crate::sftp) fn append(mut file: &File, data: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut file, data)
}

impl From<Metadata> for FileStat {
    fn from(metadata: Metadata) -> Self {
        let kind = metadata.file_type();
        let kind = match () {
            () if kind.is_symlink() => LINK,
            () if kind.is_dir() => DIRECTORY,
            () => REGULAR,
        };
        let rights = if metadata.permissions().readonly() { ANYTHING & !WRITE } else { ANYTHING };
        let attrs = Attrs {
            size: Some(metadata.len()),
            owner: None,
            mode: Some(kind | rights),
            times: Some(Times {
                accessed: since_1970(metadata.accessed()),
                modified: since_1970(metadata.modified()),
            }),
        };
        Self { attrs, links: 1 }
    }
}

fn since_1970(time: io::Result<SystemTime>) -> u32 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

pub(in crate::sftp) fn stat(path: &Path) -> io::Result<FileStat> {
    std::fs::metadata(path).map(FileStat::from)
}

pub(in crate::sftp) fn lstat(path: &Path) -> io::Result<FileStat> {
    std::fs::symlink_metadata(path).map(FileStat::from)
}

impl Handle {
    pub(in crate::sftp) fn is_same_file(&self, other: &Self) -> io::Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    fn identity(&self) -> io::Result<same_file::Handle> {
        match self {
            Self::File(open) => same_file::Handle::from_file(open.file.try_clone()?),
            Self::Directory(directory) => same_file::Handle::from_path(&directory.path),
        }
    }

    pub(in crate::sftp) fn stat(&self) -> io::Result<FileStat> {
        match self {
            Self::File(open) => open.file.metadata().map(FileStat::from),
            Self::Directory(directory) => stat(&directory.path),
        }
    }

    pub(in crate::sftp) fn statvfs(&self) -> io::Result<[u64; 11]> {
        Err(unsupported("the size of a file system is not told here"))
    }

    pub(in crate::sftp) fn set_attrs(&self, attrs: &Attrs) -> io::Result<()> {
        match self {
            Self::File(open) => {
                if let Some(size) = attrs.size {
                    open.file.set_len(size)?;
                }
                set_on(&open.file, attrs)
            }
            Self::Directory(directory) => set_attrs(&directory.path, attrs),
        }
    }
}

/// Sets attributes of the file at `path`, following symbolic links.
pub(in crate::sftp) fn set_attrs(path: &Path, attrs: &Attrs) -> io::Result<()> {
    if let Some(size) = attrs.size {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    let file = OpenOptions::new().access_mode(WRITE_ATTRIBUTES).custom_flags(BACKUP_SEMANTICS).open(path)?;
    set_on(&file, attrs)
}

/// Like [`set_attrs`], for a symbolic link itself; the size is not looked at.
pub(in crate::sftp) fn set_link_attrs(path: &Path, attrs: &Attrs) -> io::Result<()> {
    let link = BACKUP_SEMANTICS | OPEN_REPARSE_POINT;
    let file = OpenOptions::new().access_mode(WRITE_ATTRIBUTES).custom_flags(link).open(path)?;
    set_on(&file, attrs)
}

/// The times before the mark: what is marked as read-only cannot be changed any more.
fn set_on(file: &File, attrs: &Attrs) -> io::Result<()> {
    if let Some(Times { accessed, modified }) = attrs.times {
        let time = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
        file.set_times(FileTimes::new().set_accessed(time(accessed)).set_modified(time(modified)))?;
    }
    if let Some(mode) = attrs.mode {
        let mut permissions: Permissions = file.metadata()?.permissions();
        let is_readonly = mode & WRITE == 0;
        if permissions.readonly() != is_readonly {
            permissions.set_readonly(is_readonly);
            file.set_permissions(permissions)?;
        }
    }
    if attrs.owner.is_some() { Err(unsupported("files have no owner's number here")) } else { Ok(()) }
}

pub(in crate::sftp) fn make_directory(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// A link to something that is not there yet is one to a file.
pub(in crate::sftp) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    let leads_to = link.parent().map_or_else(|| target.to_owned(), |directory| directory.join(target));
    if leads_to.is_dir() {
        std::os::windows::fs::symlink_dir(target, link)
    } else {
        std::os::windows::fs::symlink_file(target, link)
    }
}

/// Renames, but fails if there is something at `to`. What appears there between the two calls is lost.
pub(in crate::sftp) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something of that name"));
    }
    std::fs::rename(from, to)
}

pub(in crate::sftp) fn statvfs(_: &Path) -> io::Result<[u64; 11]> {
    Err(unsupported("the size of a file system is not told here"))
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// A directory being read.
#[derive(Debug)]
pub(in crate::sftp) struct Directory {
    path: PathBuf,
    entries: ReadDir,
    /// `.` and `..`, which the library leaves out, from behind.
    dots: Vec<&'static str>,
}

impl Directory {
    pub(in crate::sftp) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), entries: std::fs::read_dir(path)?, dots: vec!["..", "."] })
    }

    /// The next entry, `.` and `..` included; what vanishes while it is looked at is left out.
    pub(in crate::sftp) fn next_entry(&mut self) -> Option<io::Result<(Vec<u8>, FileStat)>> {
        while let Some(name) = self.dots.pop() {
            if let Ok(stat) = stat(&self.path.join(name)) {
                return Some(Ok((name.as_bytes().to_vec(), stat)));
            }
        }
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            if let Ok(metadata) = entry.metadata() {
                return Some(Ok((entry.file_name().to_string_lossy().as_bytes().to_vec(), metadata.into())));
            }
        }
    }
}

/// Where the user of this process is at home.
pub(in crate::sftp) fn home_directory() -> Option<PathBuf> {
    std::env::home_dir()
}

//! Unix systems: names are bytes, and the protocol's attributes are theirs.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{FileExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Gid, Mode, OFlags, RawMode, Stat, StatVfs, StatVfsMountFlags, Timespec,
        Timestamps, Uid,
    },
    io::Errno,
    process::Resource,
};

use super::{FileStat, seconds};
use crate::sftp::{
    attrs::{Attrs, Owner, Times},
    handles::Handle,
    wire::{OpenFlags, Status},
};

/// The permission bits that can be set; the others of `st_mode` are the file type.
const PERMISSION_BITS: u32 = 0o7777;

/// Where the system keeps the names of users and of groups.
pub(in crate::sftp) const USERS_FILE: Option<&str> = Some("/etc/passwd");
pub(in crate::sftp) const GROUPS_FILE: Option<&str> = Some("/etc/group");

/// The status for a system error: OpenSSH's table, so that clients see what they know.
pub(in crate::sftp) fn status(error: &io::Error) -> Status {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP) => Status::NO_SUCH_FILE,
        Some(Errno::PERM | Errno::ACCESS | Errno::FAULT) => Status::PERMISSION_DENIED,
        Some(Errno::NAMETOOLONG | Errno::INVAL) => Status::BAD_MESSAGE,
        Some(Errno::NOSYS) => Status::OP_UNSUPPORTED,
        None if error.kind() == io::ErrorKind::InvalidInput => Status::BAD_MESSAGE,
        _ => Status::FAILURE,
    }
}

/// Names are bytes here; no encoding is assumed.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere names have an encoding")]
pub(in crate::sftp) fn path(bytes: &[u8]) -> io::Result<PathBuf> {
    Ok(OsStr::from_bytes(bytes).into())
}

/// What the system says after following too many links.
pub(in crate::sftp) fn too_many_links() -> io::Error {
    Errno::LOOP.into()
}

pub(in crate::sftp) fn into_bytes(path: impl Into<OsString>) -> Vec<u8> {
    path.into().into_vec()
}

/// How many files this process may have open.
pub(in crate::sftp) fn open_file_limit() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Opens a file; `mode` is what a new one gets, less the process's umask.
///
/// `O_NONBLOCK` means nothing to a regular file, and keeps a FIFO without a peer from stopping the session.
pub(in crate::sftp) fn open(path: &Path, flags: OpenFlags, mode: u32) -> io::Result<File> {
    let writes = flags.contains(OpenFlags::WRITE);
    let mut system = match (flags.contains(OpenFlags::READ), writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    let creates = flags.contains(OpenFlags::CREATE);
    system.set(OFlags::APPEND, flags.contains(OpenFlags::APPEND));
    system.set(OFlags::CREATE, creates);
    system.set(OFlags::EXCL, creates && flags.contains(OpenFlags::EXCLUSIVE));
    system.set(OFlags::TRUNC, flags.contains(OpenFlags::TRUNCATE));
    system |= OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, system, permissions(mode))?.into())
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & PERMISSION_BITS) as RawMode)
}

/// Reads at an offset; short only at the end of a file.
pub(in crate::sftp) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(in crate::sftp) fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(data, offset)
}

/// Writes to the end of a file opened for appending. (Only Linux lets a positioned write do that.)
pub(in crate::sftp) fn append(mut file: &File, data: &[u8]) -> io::Result<()> {
    file.write_all(data)
}

impl From<Stat> for FileStat {
    #[allow(clippy::useless_conversion, reason = "the types of the fields differ between platforms")]
    fn from(stat: Stat) -> Self {
        let attrs = Attrs {
            size: Some(u64::try_from(stat.st_size).unwrap_or(0)),
            owner: Some(Owner { uid: stat.st_uid, gid: stat.st_gid }),
            mode: Some(stat.st_mode.into()),
            times: Some(Times {
                accessed: seconds(stat.st_atime.into()),
                modified: seconds(stat.st_mtime.into()),
            }),
        };
        Self { attrs, links: u64::try_from(stat.st_nlink).unwrap_or(u64::MAX) }
    }
}

pub(in crate::sftp) fn stat(path: &Path) -> io::Result<FileStat> {
    Ok(rustix::fs::stat(path)?.into())
}

pub(in crate::sftp) fn lstat(path: &Path) -> io::Result<FileStat> {
    Ok(rustix::fs::lstat(path)?.into())
}

impl Handle {
    pub(in crate::sftp) fn is_same_file(&self, other: &Self) -> io::Result<bool> {
        let (this, other) = (rustix::fs::fstat(self.as_fd()?)?, rustix::fs::fstat(other.as_fd()?)?);
        Ok((this.st_dev, this.st_ino) == (other.st_dev, other.st_ino))
    }

    pub(in crate::sftp) fn stat(&self) -> io::Result<FileStat> {
        Ok(rustix::fs::fstat(self.as_fd()?)?.into())
    }

    pub(in crate::sftp) fn statvfs(&self) -> io::Result<[u64; 11]> {
        Ok(statvfs_fields(&rustix::fs::fstatvfs(self.as_fd()?)?))
    }

    pub(in crate::sftp) fn set_attrs(&self, attrs: &Attrs) -> io::Result<()> {
        let handle = self.as_fd()?;
        each_of([
            attrs.size.map(|size| rustix::fs::ftruncate(handle, size)),
            attrs.owner.map(|owner| rustix::fs::fchown(handle, uid(owner), gid(owner))),
            attrs.mode.map(|mode| rustix::fs::fchmod(handle, permissions(mode))),
            attrs.times.map(|times| rustix::fs::futimens(handle, &timestamps(times))),
        ])
    }

    fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(match self {
            Self::File(open) => open.file.as_fd(),
            Self::Directory(directory) => directory.0.fd()?,
        })
    }
}

/// Sets attributes of the file at `path`, following symbolic links.
///
/// The owner comes before the permissions, since changing it clears the set-user-ID bit. One attribute that cannot be
/// set does not keep the others from being set; the first failure is reported.
pub(in crate::sftp) fn set_attrs(path: &Path, attrs: &Attrs) -> io::Result<()> {
    let size = attrs.size.map(|size| {
        let file =
            OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        file.set_len(size)
    });
    size.unwrap_or(Ok(())).and(each_of([
        attrs.owner.map(|owner| rustix::fs::chown(path, uid(owner), gid(owner))),
        attrs.mode.map(|mode| rustix::fs::chmod(path, permissions(mode))),
        attrs.times.map(|times| rustix::fs::utimensat(CWD, path, &timestamps(times), AtFlags::empty())),
    ]))
}

/// Like [`set_attrs`], for a symbolic link itself; the size is not looked at.
pub(in crate::sftp) fn set_link_attrs(path: &Path, attrs: &Attrs) -> io::Result<()> {
    let link = AtFlags::SYMLINK_NOFOLLOW;
    each_of([
        attrs.owner.map(|owner| rustix::fs::chownat(CWD, path, uid(owner), gid(owner), link)),
        attrs.mode.map(|mode| set_link_permissions(path, permissions(mode))),
        attrs.times.map(|times| rustix::fs::utimensat(CWD, path, &timestamps(times), link)),
    ])
}

/// Linux has no permissions on links and no call that refuses to follow one, so the type is asked first.
fn set_link_permissions(path: &Path, mode: Mode) -> rustix::io::Result<()> {
    match rustix::fs::chmodat(CWD, path, mode, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::OPNOTSUPP) => {}
        result => return result,
    }
    let stat = rustix::fs::lstat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(path, mode)
}

/// The first failure of several changes that have all been tried.
fn each_of<const N: usize>(results: [Option<rustix::io::Result<()>>; N]) -> io::Result<()> {
    Ok(results.into_iter().flatten().collect::<rustix::io::Result<()>>()?)
}

/// All ones mean "as it is", here and in the system call.
fn uid(owner: Owner) -> Option<Uid> {
    (owner.uid != u32::MAX).then(|| Uid::from_raw(owner.uid))
}

fn gid(owner: Owner) -> Option<Gid> {
    (owner.gid != u32::MAX).then(|| Gid::from_raw(owner.gid))
}

fn timestamps(times: Times) -> Timestamps {
    let timespec = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: timespec(times.accessed), last_modification: timespec(times.modified) }
}

pub(in crate::sftp) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(path, permissions(mode))?)
}

pub(in crate::sftp) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Renames, but fails if there is something at `to`.
pub(in crate::sftp) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system, or the kernel, does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return Ok(result?),
        }
    }
    // What appears at `to` between these two calls is lost; without the flag there is no better way for directories.
    if rustix::fs::lstat(to).is_ok() {
        return Err(Errno::EXIST.into());
    }
    std::fs::rename(from, to)
}

/// The eleven numbers of a `statvfs@openssh.com` reply, in their order.
pub(in crate::sftp) fn statvfs(path: &Path) -> io::Result<[u64; 11]> {
    Ok(statvfs_fields(&rustix::fs::statvfs(path)?))
}

fn statvfs_fields(stat: &StatVfs) -> [u64; 11] {
    const READ_ONLY: u64 = 1;
    const NO_SET_UID: u64 = 2;
    let flag = |flag, bit| if stat.f_flag.contains(flag) { bit } else { 0 };
    let flags = flag(StatVfsMountFlags::RDONLY, READ_ONLY) | flag(StatVfsMountFlags::NOSUID, NO_SET_UID);
    [
        stat.f_bsize,
        stat.f_frsize,
        stat.f_blocks,
        stat.f_bfree,
        stat.f_bavail,
        stat.f_files,
        stat.f_ffree,
        stat.f_favail,
        stat.f_fsid,
        flags,
        stat.f_namemax,
    ]
}

/// A directory being read. It stays the same one when something else takes its path.
#[derive(Debug)]
pub(in crate::sftp) struct Directory(Dir);

impl Directory {
    pub(in crate::sftp) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(Self(Dir::new(rustix::fs::open(path, flags, Mode::empty())?)?))
    }

    /// The next entry, `.` and `..` included; what vanishes while it is looked at is left out.
    pub(in crate::sftp) fn next_entry(&mut self) -> Option<io::Result<(Vec<u8>, FileStat)>> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let stat = self.0.fd().and_then(|directory| {
                rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            });
            if let Ok(stat) = stat {
                return Some(Ok((entry.file_name().to_bytes().to_vec(), stat.into())));
            }
        }
    }
}

/// Where the user of this process is at home.
pub(in crate::sftp) fn home_directory() -> Option<PathBuf> {
    std::env::home_dir()
}

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::*;
use crate::sftp::{
    attrs::{Owner, Times},
    request::tests::any_request,
    wire::{Fields, PacketType, Status},
};

/// A session in a directory of its own.
struct Bench {
    directory: TempDir,
    session: Session,
}

impl Bench {
    fn new() -> Self {
        Self::with_handle_limit(16)
    }

    fn with_handle_limit(limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let session = Session::new(Root::new(directory.path().to_owned()), limit, Arc::default());
        Self { directory, session }
    }

    fn with_file(name: &str, content: &str) -> Self {
        let bench = Self::new();
        fs::write(bench.path(name), content).unwrap();
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn content(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn status(&mut self, request: Request) -> Status {
        match self.session.execute(request) {
            Reply::Done => Status::OK,
            Reply::Failed(failure) => failure.status,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, path: &'static str, flags: u32) -> Bytes {
        match self.session.execute(open(path, flags)) {
            Reply::Handle(handle) => Bytes::copy_from_slice(&handle.to_bytes()),
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, handle: &Bytes, offset: u64, length: u32) -> Result<Vec<u8>, Status> {
        match self.session.execute(Request::Read { handle: handle.clone(), offset, length }) {
            reply @ Reply::Data(_) => Ok(reply.into_packet(0).bytes()[13..].to_vec()),
            Reply::Failed(failure) => Err(failure.status),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, handle: &Bytes, offset: u64, data: &'static str) -> Status {
        self.status(Request::Write { handle: handle.clone(), offset, data: data.into() })
    }

    fn attrs(&mut self, path: &'static str) -> Attrs {
        match self.session.execute(Request::Lstat { path: path.into() }) {
            Reply::Attrs(attrs) => attrs,
            other => panic!("{other:?}"),
        }
    }

    fn names(&mut self, request: Request) -> Result<Vec<Entry>, Status> {
        match self.session.execute(request) {
            Reply::Names(names) => Ok(names),
            Reply::Failed(failure) => Err(failure.status),
            other => panic!("{other:?}"),
        }
    }

    fn extended(&mut self, request: ExtendedRequest) -> Result<Fields, Status> {
        match self.session.execute(Request::Extended(request)) {
            Reply::Extended(body) => Ok(Fields::new(body.into())),
            Reply::Done => Ok(Fields::new(Bytes::new())),
            Reply::Failed(failure) => Err(failure.status),
            other => panic!("{other:?}"),
        }
    }
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

fn open(path: &'static str, flags: u32) -> Request {
    Request::Open { path: path.into(), flags: OpenFlags(flags), attrs: Attrs::default() }
}

fn mode(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

#[test]
fn reads_end_with_the_file() {
    let mut bench = Bench::with_file("f", "0123456789");
    let handle = bench.open("f", READ);
    assert_eq!(bench.read(&handle, 2, 4), Ok(b"2345".to_vec()));
    assert_eq!(bench.read(&handle, 8, u32::MAX), Ok(b"89".to_vec()));
    assert_eq!(bench.read(&handle, 10, 1), Err(Status::EOF));
    assert_eq!(bench.read(&handle, u64::from(u32::MAX), 1), Err(Status::EOF));
    assert_eq!(bench.read(&handle, 10, 0), Ok(Vec::new()));
}

#[test]
fn offsets_no_file_can_have_fail() {
    let mut bench = Bench::with_file("f", "x");
    let handle = bench.open("f", READ | WRITE);
    assert_eq!(bench.read(&handle, MAX_OFFSET, 1), Err(Status::EOF));
    assert_eq!(bench.read(&handle, MAX_OFFSET + 1, 1), Err(Status::FAILURE));
    assert_eq!(bench.read(&handle, u64::MAX, 1), Err(Status::FAILURE));
    assert_eq!(bench.write(&handle, u64::MAX, "x"), Status::FAILURE);
    assert_eq!(bench.write(&handle, MAX_OFFSET, "x"), Status::FAILURE);
    assert_eq!(bench.content("f"), "x");
}

#[test]
fn a_read_gives_no_more_than_fits_a_packet() {
    let mut bench = Bench::new();
    fs::write(bench.path("f"), vec![7; 300_000]).unwrap();
    let handle = bench.open("f", READ);
    assert_eq!(bench.read(&handle, 0, 300_000).unwrap().len(), MAX_DATA_BYTES as usize);
    assert_eq!(bench.read(&handle, 261_120, 300_000).unwrap(), vec![7; 300_000 - 261_120]);
}

#[test]
fn open_flags_do_what_they_say() {
    let mut bench = Bench::with_file("f", "old");
    assert_eq!(bench.status(open("none", READ)), Status::NO_SUCH_FILE);
    assert_eq!(bench.status(open("f", WRITE | CREATE | EXCLUSIVE)), Status::FAILURE);
    let appending = bench.open("f", WRITE | APPEND);
    assert_eq!(bench.write(&appending, 0, "er"), Status::OK);
    assert_eq!(bench.content("f"), "older");
    let writing = bench.open("f", WRITE);
    assert_eq!(bench.write(&writing, 1, "n"), Status::OK);
    assert_eq!(bench.content("f"), "onder");
    assert_eq!(bench.read(&writing, 0, 1), Err(Status::NO_SUCH_FILE), "EBADF, as OpenSSH maps it");
    bench.open("f", WRITE | CREATE | TRUNCATE);
    assert_eq!(bench.content("f"), "");
}

#[test]
fn new_files_and_directories_get_the_mode_asked_for_less_the_umask() {
    let mut bench = Bench::new();
    let umask = {
        // What the kernel makes of all bits; reading the umask itself would change it for other threads.
        let probe = bench.path("probe");
        fs::create_dir(&probe).unwrap();
        0o777 & !fs::metadata(probe).unwrap().mode()
    };
    let request =
        Request::Open { path: "f".into(), flags: OpenFlags(WRITE | CREATE), attrs: mode(0o100_741) };
    assert!(matches!(bench.session.execute(request), Reply::Handle(_)));
    bench.open("plain", WRITE | CREATE);
    assert_eq!(bench.status(Request::Mkdir { path: "d".into(), attrs: mode(0o751) }), Status::OK);
    assert_eq!(bench.status(Request::Mkdir { path: "d".into(), attrs: mode(0o751) }), Status::FAILURE);
    for (name, asked) in [("f", 0o741), ("plain", 0o666), ("d", 0o751)] {
        let mode = fs::metadata(bench.path(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode, asked & !umask, "{name}");
    }
}

#[test]
fn a_fifo_without_a_peer_does_not_stop_the_session() {
    let mut bench = Bench::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(bench.status(open("fifo", WRITE)), Status::FAILURE);
    let handle = bench.open("fifo", READ);
    assert_eq!(bench.read(&handle, 0, 1), Err(Status::FAILURE));
    let attrs = Attrs { size: Some(1), ..Attrs::default() };
    assert_eq!(bench.status(Request::Fsetstat { handle, attrs }), Status::BAD_MESSAGE);
}

#[test]
fn handles_that_are_not_open_fail() {
    let mut bench = Bench::with_file("f", "");
    let handle = bench.open("f", READ);
    assert_eq!(bench.status(Request::Readdir { handle: handle.clone() }), Status::FAILURE);
    assert_eq!(bench.status(Request::Close { handle: handle.clone() }), Status::OK);
    for handle in [handle, "".into(), "not a handle".into()] {
        assert_eq!(bench.read(&handle, 0, 1), Err(Status::FAILURE));
        assert_eq!(bench.write(&handle, 0, "x"), Status::FAILURE);
        assert_eq!(bench.status(Request::Close { handle: handle.clone() }), Status::FAILURE);
        assert_eq!(bench.status(Request::Fstat { handle: handle.clone() }), Status::FAILURE);
        assert_eq!(bench.status(Request::Readdir { handle }), Status::FAILURE);
    }
}

#[test]
fn a_full_handle_table_creates_no_file() {
    let mut bench = Bench::with_handle_limit(2);
    let first = bench.open("a", WRITE | CREATE);
    bench.open("b", WRITE | CREATE);
    assert_eq!(bench.status(open("c", WRITE | CREATE)), Status::FAILURE);
    assert_eq!(bench.status(Request::Opendir { path: ".".into() }), Status::FAILURE);
    assert!(!bench.path("c").exists());
    assert_eq!(bench.status(Request::Close { handle: first }), Status::OK);
    bench.open("c", WRITE | CREATE);
}

#[test]
fn rename_keeps_what_is_there_and_posix_rename_replaces_it() {
    let mut bench = Bench::with_file("a", "a");
    fs::write(bench.path("b"), "b").unwrap();
    fs::create_dir(bench.path("d")).unwrap();
    fs::create_dir(bench.path("e")).unwrap();
    assert_eq!(bench.status(Request::Rename { from: "a".into(), to: "b".into() }), Status::FAILURE);
    assert_eq!(bench.status(Request::Rename { from: "d".into(), to: "e".into() }), Status::FAILURE);
    assert_eq!(bench.content("b"), "b");
    assert_eq!(bench.status(Request::Rename { from: "d".into(), to: "f".into() }), Status::OK);
    assert_eq!(bench.status(Request::Rename { from: "d".into(), to: "g".into() }), Status::NO_SUCH_FILE);
    assert!(bench.extended(ExtendedRequest::PosixRename { from: "a".into(), to: "b".into() }).is_ok());
    assert_eq!(bench.content("b"), "a");
}

#[test]
fn links_take_the_target_first() {
    let mut bench = Bench::with_file("f", "x");
    assert_eq!(bench.status(Request::Symlink { target: "f".into(), link: "s".into() }), Status::OK);
    assert_eq!(fs::read_link(bench.path("s")).unwrap().as_os_str(), "f");
    let names = bench.names(Request::Readlink { path: "s".into() }).unwrap();
    assert_eq!(names, [Entry::path(b"f".to_vec())]);
    assert_eq!(bench.names(Request::Readlink { path: "f".into() }), Err(Status::BAD_MESSAGE));
    assert!(bench.extended(ExtendedRequest::Hardlink { target: "f".into(), link: "h".into() }).is_ok());
    assert_eq!(fs::metadata(bench.path("h")).unwrap().nlink(), 2);
}

#[test]
fn attributes_are_set_by_path_and_by_handle() {
    let mut bench = Bench::with_file("f", "0123456789");
    let metadata = fs::metadata(bench.path("f")).unwrap();
    let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
    let attrs = Attrs {
        size: Some(4),
        owner: Some(owner),
        mode: Some(0o100_640),
        times: Some(Times { accessed: 1_000_000_000, modified: 4_000_000_000 }),
    };
    assert_eq!(bench.status(Request::Setstat { path: "f".into(), attrs }), Status::OK);
    assert_eq!(bench.attrs("f"), attrs);
    let handle = bench.open("f", WRITE);
    let attrs = Attrs { size: Some(8), mode: Some(0o100_600), ..attrs };
    assert_eq!(bench.status(Request::Fsetstat { handle, attrs }), Status::OK);
    assert_eq!(bench.attrs("f"), attrs);
    let unchanged = Attrs { owner: Some(Owner { uid: u32::MAX, gid: u32::MAX }), ..Attrs::default() };
    assert_eq!(bench.status(Request::Setstat { path: "f".into(), attrs: unchanged }), Status::OK);
    assert_eq!(bench.attrs("f").owner, Some(owner));
    assert_eq!(bench.status(Request::Setstat { path: "none".into(), attrs }), Status::NO_SUCH_FILE);
}

#[test]
fn one_attribute_that_fails_does_not_keep_the_others() {
    let mut bench = Bench::new();
    fs::create_dir(bench.path("d")).unwrap();
    let attrs = Attrs { size: Some(4), ..mode(0o40_700) };
    assert_eq!(bench.status(Request::Setstat { path: "d".into(), attrs }), Status::FAILURE);
    assert_eq!(bench.attrs("d").mode, Some(0o40_700));
}

#[test]
fn lsetstat_changes_the_link() {
    let mut bench = Bench::with_file("f", "x");
    let before = bench.attrs("f");
    std::os::unix::fs::symlink("f", bench.path("s")).unwrap();
    let times = Some(Times { accessed: 5, modified: 6 });
    let lsetstat = |path: &'static str, attrs| ExtendedRequest::Lsetstat { path: path.into(), attrs };
    assert!(bench.extended(lsetstat("s", Attrs { times, ..Attrs::default() })).is_ok());
    assert_eq!(bench.attrs("s").times.map(|times| times.modified), Some(6));
    assert_eq!(bench.attrs("f"), before);
    assert!(bench.extended(lsetstat("f", mode(0o600))).is_ok());
    assert_eq!(bench.attrs("f").mode, Some(0o100_600));
    let size = Attrs { size: Some(0), ..Attrs::default() };
    assert_eq!(bench.extended(lsetstat("f", size)).err(), Some(Status::BAD_MESSAGE));
    #[cfg(target_os = "linux")]
    assert_eq!(bench.extended(lsetstat("s", mode(0o600))).err(), Some(Status::FAILURE));
}

#[test]
fn directories_are_listed_to_the_end() {
    let mut bench = Bench::new();
    for index in 0..250 {
        fs::write(bench.path(&format!("file-{index}")), "").unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff\n");
    fs::write(bench.directory.path().join(odd), "12345").unwrap();
    fs::set_permissions(bench.directory.path().join(odd), fs::Permissions::from_mode(0o640)).unwrap();
    let Reply::Handle(handle) = bench.session.execute(Request::Opendir { path: ".".into() }) else {
        panic!()
    };
    let handle = Bytes::copy_from_slice(&handle.to_bytes());
    let mut entries = Vec::new();
    loop {
        match bench.names(Request::Readdir { handle: handle.clone() }) {
            Ok(names) => {
                assert!((1..=READDIR_ENTRIES).contains(&names.len()));
                entries.extend(names);
            }
            Err(status) => break assert_eq!(status, Status::EOF),
        }
    }
    assert_eq!(entries.len(), 250 + 1 + 2);
    let entry = entries.iter().find(|entry| entry.name == odd.as_bytes()).unwrap();
    assert_eq!(entry.attrs.size, Some(5));
    assert!(entry.long_name.starts_with(b"-rw-r-----    1 "), "{}", entry.long_name.escape_ascii());
    assert!(entry.long_name.ends_with(b" odd \xff\n"));
    assert_eq!(bench.read(&handle, 0, 1), Err(Status::FAILURE));
    assert!(matches!(bench.session.execute(Request::Fstat { handle }), Reply::Attrs(_)));
}

#[test]
fn data_is_copied_between_open_files() {
    let mut bench = Bench::new();
    let content = "0123456789abcdefghijklm".repeat(30_000);
    fs::write(bench.path("from"), &content).unwrap();
    let (from, to) = (bench.open("from", READ), bench.open("to", READ | WRITE | CREATE));
    let copy = |from: &Bytes, from_offset, length, to: &Bytes, to_offset| {
        ExtendedRequest::CopyData(CopyData {
            from: from.clone(),
            from_offset,
            length,
            to: to.clone(),
            to_offset,
        })
    };
    assert!(bench.extended(copy(&from, 0, 0, &to, 0)).is_ok());
    assert_eq!(bench.content("to"), content);
    assert!(bench.extended(copy(&from, 2, 4, &to, 100_000)).is_ok());
    assert_eq!(bench.content("to")[100_000..100_004], content[2..6]);
    assert_eq!(bench.extended(copy(&from, 0, 1 << 40, &to, 0)).err(), Some(Status::EOF));
    assert_eq!(bench.extended(copy(&from, u64::MAX, 1, &to, 0)).err(), Some(Status::FAILURE));
    let same = bench.open("to", WRITE);
    assert_eq!(bench.extended(copy(&to, 0, 0, &same, 9)).err(), Some(Status::FAILURE));
}

#[test]
fn limits_and_file_systems_are_described() {
    let mut bench = Bench::with_file("f", "x");
    let mut limits = bench.extended(ExtendedRequest::Limits).unwrap();
    for expected in [262_144, 261_120, 261_120, 16] {
        assert_eq!(limits.uint64("limit"), Ok(expected));
    }
    assert!(limits.is_empty());
    let handle = bench.open("f", READ);
    for request in [ExtendedRequest::Statvfs { path: "f".into() }, ExtendedRequest::Fstatvfs { handle }] {
        let mut numbers = bench.extended(request).unwrap();
        assert!(numbers.uint64("block size").unwrap() > 0);
        for _ in 1..11 {
            numbers.uint64("number").unwrap();
        }
        assert!(numbers.is_empty());
    }
    let none = ExtendedRequest::Statvfs { path: "none".into() };
    assert_eq!(bench.extended(none).err(), Some(Status::NO_SUCH_FILE));
}

#[test]
fn ids_have_names() {
    let mut bench = Bench::new();
    let mut reply = bench
        .extended(ExtendedRequest::UsersGroupsById { uids: vec![0, 3_999_999_999], gids: vec![0] })
        .unwrap();
    assert_eq!(reply.string("users"), Ok(Bytes::from_static(b"\0\0\0\x04root\0\0\0\0")));
    assert!(reply.string("groups").unwrap().len() > 4);
    let many = ExtendedRequest::UsersGroupsById { uids: vec![0; 65_000], gids: vec![] };
    assert_eq!(bench.extended(many).err(), Some(Status::FAILURE));
}

#[test]
fn what_nobody_knows_is_unsupported() {
    let mut bench = Bench::new();
    assert_eq!(bench.status(Request::Unknown { packet_type: PacketType(99) }), Status::OP_UNSUPPORTED);
    assert_eq!(bench.extended(ExtendedRequest::Unknown).err(), Some(Status::OP_UNSUPPORTED));
}

#[test]
fn empty_and_impossible_paths_fail() {
    let mut bench = Bench::new();
    assert_eq!(bench.status(open("", READ)), Status::NO_SUCH_FILE);
    assert_eq!(bench.status(Request::Remove { path: "".into() }), Status::NO_SUCH_FILE);
    assert_eq!(bench.status(open("a\0b", READ | WRITE | CREATE)), Status::BAD_MESSAGE);
    assert_eq!(bench.status(Request::Rmdir { path: "a\0b".into() }), Status::BAD_MESSAGE);
    let long = "n".repeat(300).into();
    assert_eq!(bench.status(Request::Stat { path: long }), Status::BAD_MESSAGE);
}

/// Paths below the session's directory only, since the requests are carried out.
fn harmless_path() -> impl Strategy<Value = Bytes> + Clone {
    prop::sample::select(vec!["a", "b", "d", "d/e", "d/e/f", "", "a\0b", "none", "n/o"])
        .prop_map(|path| Bytes::from_static(path.as_bytes()))
}

/// Handles that may be open, and some that are not.
fn likely_handle() -> impl Strategy<Value = Bytes> + Clone {
    prop_oneof![
        4 => (0_u64..4).prop_map(|number| Bytes::copy_from_slice(&number.to_be_bytes())),
        1 => vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ]
}

proptest! {
    #[test]
    fn every_request_has_an_answer(requests in vec(any_request(harmless_path(), likely_handle()), 1..40)) {
        let mut bench = Bench::with_handle_limit(4);
        for request in requests {
            // A mode without rights would make a test user's directory unreadable to its own clean-up.
            if let Request::Setstat { attrs, .. } | Request::Fsetstat { attrs, .. } | Request::Mkdir { attrs, .. } =
                &request
                && (attrs.mode.is_some() || attrs.owner.is_some())
            {
                continue;
            }
            let packet = bench.session.execute(request).into_packet(7);
            prop_assert!(packet.bytes().len() <= MAX_PACKET_BYTES as usize + 4);
            prop_assert_eq!(packet.bytes()[..4].to_vec(), u32::try_from(packet.bytes().len() - 4).unwrap().to_be_bytes());
        }
    }
}

use bytes::BufMut;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::sftp::{attrs::tests::any_attrs, extension::CopyData, wire::put_string};

/// What a client would send for `request`, without the length prefix.
pub(in crate::sftp) fn encode(id: u32, request: &Request) -> Vec<u8> {
    let mut out = Packet::default();
    match request {
        Request::Open { path, flags, attrs } => {
            out.begin(PacketType::OPEN, id).string(path).uint32(flags.0).attrs(attrs)
        }
        Request::Close { handle } => out.begin(PacketType::CLOSE, id).string(handle),
        Request::Read { handle, offset, length } => {
            out.begin(PacketType::READ, id).string(handle).uint64(*offset).uint32(*length)
        }
        Request::Write { handle, offset, data } => {
            out.begin(PacketType::WRITE, id).string(handle).uint64(*offset).string(data)
        }
        Request::Lstat { path } => out.begin(PacketType::LSTAT, id).string(path),
        Request::Fstat { handle } => out.begin(PacketType::FSTAT, id).string(handle),
        Request::Setstat { path, attrs } => out.begin(PacketType::SETSTAT, id).string(path).attrs(attrs),
        Request::Fsetstat { handle, attrs } => {
            out.begin(PacketType::FSETSTAT, id).string(handle).attrs(attrs)
        }
        Request::Opendir { path } => out.begin(PacketType::OPENDIR, id).string(path),
        Request::Readdir { handle } => out.begin(PacketType::READDIR, id).string(handle),
        Request::Remove { path } => out.begin(PacketType::REMOVE, id).string(path),
        Request::Mkdir { path, attrs } => out.begin(PacketType::MKDIR, id).string(path).attrs(attrs),
        Request::Rmdir { path } => out.begin(PacketType::RMDIR, id).string(path),
        Request::Realpath { path } => out.begin(PacketType::REALPATH, id).string(path),
        Request::Stat { path } => out.begin(PacketType::STAT, id).string(path),
        Request::Rename { from, to } => out.begin(PacketType::RENAME, id).string(from).string(to),
        Request::Readlink { path } => out.begin(PacketType::READLINK, id).string(path),
        Request::Symlink { target, link } => out.begin(PacketType::SYMLINK, id).string(target).string(link),
        Request::Extended(request) => encode_extended(&mut out, id, request),
        Request::Unknown { packet_type } => out.begin(*packet_type, id),
    };
    out.0
}

fn encode_extended<'a>(out: &'a mut Packet, id: u32, request: &ExtendedRequest) -> &'a mut Packet {
    let out = out.begin(PacketType::EXTENDED, id);
    match request {
        ExtendedRequest::PosixRename { from, to } => {
            out.name(extension::POSIX_RENAME).string(from).string(to)
        }
        ExtendedRequest::Statvfs { path } => out.name(extension::STATVFS).string(path),
        ExtendedRequest::Fstatvfs { handle } => out.name(extension::FSTATVFS).string(handle),
        ExtendedRequest::Hardlink { target, link } => {
            out.name(extension::HARDLINK).string(target).string(link)
        }
        ExtendedRequest::Fsync { handle } => out.name(extension::FSYNC).string(handle),
        ExtendedRequest::Lsetstat { path, attrs } => out.name(extension::LSETSTAT).string(path).attrs(attrs),
        ExtendedRequest::Limits => out.name(extension::LIMITS),
        ExtendedRequest::ExpandPath { path } => out.name(extension::EXPAND_PATH).string(path),
        ExtendedRequest::CopyData(copy) => out
            .name(extension::COPY_DATA)
            .string(&copy.from)
            .uint64(copy.from_offset)
            .uint64(copy.length)
            .string(&copy.to)
            .uint64(copy.to_offset),
        ExtendedRequest::HomeDirectory { user } => out.name(extension::HOME_DIRECTORY).string(user),
        ExtendedRequest::UsersGroupsById { uids, gids } => {
            let row = |ids: &[u32]| ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>();
            out.name(extension::USERS_GROUPS_BY_ID).string(&row(uids)).string(&row(gids))
        }
        ExtendedRequest::Unknown => out.name("unheard-of@example.com"),
    }
}

#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn begin(&mut self, packet_type: PacketType, id: u32) -> &mut Self {
        self.0.put_u8(packet_type.0);
        self.uint32(id)
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.string(name.as_bytes())
    }

    fn string(&mut self, string: &[u8]) -> &mut Self {
        put_string(&mut self.0, string);
        self
    }

    fn uint32(&mut self, number: u32) -> &mut Self {
        self.0.put_u32(number);
        self
    }

    fn uint64(&mut self, number: u64) -> &mut Self {
        self.0.put_u64(number);
        self
    }

    fn attrs(&mut self, attrs: &Attrs) -> &mut Self {
        attrs.encode(&mut self.0);
        self
    }
}

/// Every request, with paths and handles from the given strategies.
pub(in crate::sftp) fn any_request(
    path: impl Strategy<Value = Bytes> + Clone + 'static,
    handle: impl Strategy<Value = Bytes> + Clone + 'static,
) -> impl Strategy<Value = Request> {
    let (paths, handles) = ((path.clone(), path.clone()), (handle.clone(), handle.clone()));
    let on_paths = prop_oneof![
        (path.clone(), any::<u32>(), any_attrs()).prop_map(|(path, flags, attrs)| Request::Open {
            path,
            flags: OpenFlags(flags),
            attrs
        }),
        path.clone().prop_map(|path| Request::Lstat { path }),
        path.clone().prop_map(|path| Request::Opendir { path }),
        path.clone().prop_map(|path| Request::Remove { path }),
        path.clone().prop_map(|path| Request::Rmdir { path }),
        path.clone().prop_map(|path| Request::Realpath { path }),
        path.clone().prop_map(|path| Request::Stat { path }),
        path.clone().prop_map(|path| Request::Readlink { path }),
        (path.clone(), any_attrs()).prop_map(|(path, attrs)| Request::Setstat { path, attrs }),
        (path.clone(), any_attrs()).prop_map(|(path, attrs)| Request::Mkdir { path, attrs }),
        paths.clone().prop_map(|(from, to)| Request::Rename { from, to }),
        paths.clone().prop_map(|(target, link)| Request::Symlink { target, link }),
    ];
    let on_handles = prop_oneof![
        handle.clone().prop_map(|handle| Request::Close { handle }),
        (handle.clone(), any_offset(), any::<u32>()).prop_map(|(handle, offset, length)| Request::Read {
            handle,
            offset,
            length
        }),
        (handle.clone(), any_offset(), vec(any::<u8>(), 0..100))
            .prop_map(|(handle, offset, data)| Request::Write { handle, offset, data: data.into() }),
        handle.clone().prop_map(|handle| Request::Fstat { handle }),
        handle.clone().prop_map(|handle| Request::Readdir { handle }),
        (handle.clone(), any_attrs()).prop_map(|(handle, attrs)| Request::Fsetstat { handle, attrs }),
    ];
    let extended = prop_oneof![
        paths.clone().prop_map(|(from, to)| ExtendedRequest::PosixRename { from, to }),
        paths.prop_map(|(target, link)| ExtendedRequest::Hardlink { target, link }),
        path.clone().prop_map(|path| ExtendedRequest::Statvfs { path }),
        path.clone().prop_map(|path| ExtendedRequest::ExpandPath { path }),
        path.clone().prop_map(|user| ExtendedRequest::HomeDirectory { user }),
        (path, any_attrs()).prop_map(|(path, attrs)| ExtendedRequest::Lsetstat { path, attrs }),
        handle.clone().prop_map(|handle| ExtendedRequest::Fstatvfs { handle }),
        handle.prop_map(|handle| ExtendedRequest::Fsync { handle }),
        (handles, any_offset(), 1_u64..1000, any_offset()).prop_map(
            |((from, to), from_offset, length, to_offset)| {
                ExtendedRequest::CopyData(CopyData { from, from_offset, length, to, to_offset })
            }
        ),
        (vec(any::<u32>(), 0..9), vec(any::<u32>(), 0..9))
            .prop_map(|(uids, gids)| ExtendedRequest::UsersGroupsById { uids, gids }),
        Just(ExtendedRequest::Limits),
        Just(ExtendedRequest::Unknown),
    ];
    prop_oneof![
        on_paths,
        on_handles,
        extended.prop_map(Request::Extended),
        (21_u8..100).prop_map(|number| Request::Unknown { packet_type: PacketType(number) }),
    ]
}

/// Near the beginning, near the end of what a file can be, and anything else.
fn any_offset() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..200, (i64::MAX as u64 - 50)..=(i64::MAX as u64 + 50), any::<u64>()]
}

fn any_bytes() -> impl Strategy<Value = Bytes> + Clone {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

proptest! {
    #[test]
    fn what_a_client_sends_is_what_is_read(id: u32, request in any_request(any_bytes(), any_bytes())) {
        let decoded = Incoming::decode(encode(id, &request).into());
        prop_assert_eq!(decoded, Ok(Incoming::Request { id, request }));
    }

    #[test]
    fn a_cut_request_is_refused_by_its_number(
        id: u32,
        request in any_request(any_bytes(), any_bytes()),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut packet = encode(id, &request);
        packet.truncate(cut.index(packet.len()));
        match Incoming::decode(packet.clone().into()) {
            Ok(Incoming::Malformed { id: refused, .. }) => prop_assert_eq!(refused, id),
            Err(DecodeError::Truncated { .. }) => prop_assert!(packet.len() < 5),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn bytes_behind_the_last_field_are_ignored(
        id: u32,
        request in any_request(any_bytes(), any_bytes()),
        behind in any_bytes(),
    ) {
        let mut packet = encode(id, &request);
        packet.extend_from_slice(&behind);
        prop_assert_eq!(Incoming::decode(packet.into()), Ok(Incoming::Request { id, request }));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(packet in vec(any::<u8>(), 0..300)) {
        crate::sftp::fuzz_request(&packet);
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        request in any_request(any_bytes(), any_bytes()),
        at in any::<proptest::sample::Index>(),
        byte: u8,
    ) {
        let mut packet = encode(1, &request);
        let at = at.index(packet.len());
        packet[at] = byte;
        crate::sftp::fuzz_request(&packet);
    }
}

#[test]
fn the_packets_of_openssh_are_read() {
    let decode = |packet: &'static [u8]| Incoming::decode(Bytes::from_static(packet));
    assert_eq!(decode(b"\x01\0\0\0\x03"), Ok(Incoming::Init { version: 3 }));
    assert_eq!(
        decode(b"\x03\0\0\0\x05\0\0\0\x02/x\0\0\0\x1a\0\0\0\x04\0\0\x81\xa4"),
        Ok(Incoming::Request {
            id: 5,
            request: Request::Open {
                path: Bytes::from_static(b"/x"),
                flags: OpenFlags(0x1a),
                attrs: Attrs { mode: Some(0o100_644), ..Attrs::default() },
            },
        })
    );
    assert_eq!(
        decode(b"\xc8\0\0\0\x01\0\0\0\x12limits@openssh.com"),
        Ok(Incoming::Request { id: 1, request: Request::Extended(ExtendedRequest::Limits) })
    );
}

#[test]
fn an_extension_name_that_is_no_text_is_refused() {
    let packet = Bytes::from_static(b"\xc8\0\0\0\x01\0\0\0\x01\xff");
    assert_eq!(
        Incoming::decode(packet),
        Ok(Incoming::Malformed { id: 1, error: DecodeError::ExtensionName })
    );
}

use std::path::Path;

use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf},
    task::JoinHandle,
};

use super::{
    attrs::Attrs,
    request::{Request, tests::encode},
    wire::{Fields, MAX_DATA_BYTES, MAX_PACKET_BYTES, OpenFlags, PacketType, Status},
    *,
};

/// A client and its session, with 64 KiB between them in each direction.
struct Client {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    session: JoinHandle<Result<(), SftpError>>,
}

impl Client {
    fn start(root: &Path) -> Self {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(server);
        let session =
            tokio::spawn(serve(reader, writer, SftpConfig { root_dir: root.to_owned(), read_only: false }));
        let (reader, writer) = tokio::io::split(client);
        Self { reader, writer, session }
    }

    async fn opened(root: &Path) -> Self {
        let mut client = Self::start(root);
        client.packet(b"\x01\0\0\0\x03").await;
        assert_eq!(client.reply().await.0, PacketType::VERSION);
        client
    }

    async fn packet(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.writer.write_all(&[&length, body].concat()).await.unwrap();
    }

    async fn send(&mut self, id: u32, request: &Request) {
        self.packet(&encode(id, request)).await;
    }

    /// The next reply's type and what follows it.
    async fn reply(&mut self) -> (PacketType, Fields) {
        let mut body = vec![0; self.reader.read_u32().await.unwrap() as usize];
        self.reader.read_exact(&mut body).await.unwrap();
        let mut fields = Fields::new(body.into());
        (PacketType(fields.byte("type").unwrap()), fields)
    }

    async fn status(&mut self, id: u32) -> Status {
        let (packet_type, mut fields) = self.reply().await;
        assert_eq!((packet_type, fields.uint32("id")), (PacketType::STATUS, Ok(id)));
        Status(fields.uint32("status").unwrap())
    }

    async fn open(&mut self, path: &'static str, flags: u32) -> Bytes {
        let flags = OpenFlags(flags);
        self.send(0, &Request::Open { path: path.into(), flags, attrs: Attrs::default() }).await;
        let (packet_type, mut fields) = self.reply().await;
        assert_eq!((packet_type, fields.uint32("id")), (PacketType::HANDLE, Ok(0)));
        fields.string("handle").unwrap()
    }

    /// Ends the input, and returns how the session ended and what it still said.
    async fn end(mut self) -> (Result<(), SftpError>, Vec<u8>) {
        self.writer.shutdown().await.unwrap();
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).await.unwrap();
        (self.session.await.unwrap(), rest)
    }
}

#[tokio::test]
async fn a_clean_end_answers_everything_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::opened(directory.path()).await;
    for id in 0..50 {
        client.send(id, &Request::Stat { path: "none".into() }).await;
    }
    let (result, rest) = client.end().await;
    assert!(result.is_ok());
    assert_eq!(rest.windows(12).filter(|window| window == b"No such file").count(), 50);
}

#[tokio::test]
async fn a_request_before_the_opening_ends_the_session() {
    let mut client = Client::start(Path::new("/"));
    client.send(1, &Request::Stat { path: "/".into() }).await;
    let (result, rest) = client.end().await;
    assert!(matches!(result, Err(SftpError::NotOpened)), "{result:?}");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn what_came_before_garbage_is_answered() {
    for garbage in [&b"\xff\xff\xff\xffxx"[..], b"\0\0\0\0", b"\0\0\0\x02\x05\0"] {
        let mut client = Client::opened(Path::new("/")).await;
        client.send(9, &Request::Stat { path: "/".into() }).await;
        client.writer.write_all(garbage).await.unwrap();
        let (result, rest) = client.end().await;
        assert!(matches!(result, Err(SftpError::PacketLength { .. } | SftpError::Packet(_))), "{result:?}");
        assert_eq!(rest.get(4..9), Some(&b"\x69\0\0\0\x09"[..]));
    }
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_the_next_one_served() {
    let mut client = Client::opened(Path::new("/")).await;
    client.packet(b"\x11\0\0\0\x01\0\0\0\xffshort").await;
    assert_eq!(client.status(1).await, Status::BAD_MESSAGE);
    client.packet(b"\x63\0\0\0\x02whatever").await;
    assert_eq!(client.status(2).await, Status::OP_UNSUPPORTED);
    client.send(3, &Request::Stat { path: "/".into() }).await;
    assert_eq!(client.reply().await.0, PacketType::ATTRS);
}

#[tokio::test]
async fn an_end_inside_a_packet_is_an_error() {
    let mut client = Client::opened(Path::new("/")).await;
    client.writer.write_all(b"\0\0\0\x09\x11").await.unwrap();
    let (result, _) = client.end().await;
    assert!(matches!(result, Err(SftpError::EndInPacket { missing: 8 })), "{result:?}");
}

#[tokio::test]
async fn many_long_reads_are_answered_in_order_to_a_client_that_reads_late() {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..16_u8).flat_map(|number| vec![number; MAX_DATA_BYTES as usize]).collect();
    std::fs::write(directory.path().join("f"), content).unwrap();
    let mut client = Client::opened(directory.path()).await;
    let handle = client.open("f", 1).await;
    // Eight times what the queue of replies holds, asked for before anything is read.
    for id in 0..256 {
        let offset = u64::from(id % 16) * u64::from(MAX_DATA_BYTES);
        client.send(id, &Request::Read { handle: handle.clone(), offset, length: MAX_DATA_BYTES }).await;
    }
    for id in 0..256 {
        let (packet_type, mut fields) = client.reply().await;
        assert_eq!((packet_type, fields.uint32("id")), (PacketType::DATA, Ok(id)));
        let number = u8::try_from(id % 16).unwrap();
        assert!(fields.string("data").unwrap() == vec![number; MAX_DATA_BYTES as usize]);
    }
    assert!(client.end().await.0.is_ok());
}

#[tokio::test]
async fn a_client_may_write_a_whole_file_before_it_reads_a_reply() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::opened(directory.path()).await;
    let handle = client.open("f", 2 | 8).await;
    let data = Bytes::from(vec![7; MAX_DATA_BYTES as usize]);
    for id in 0..200 {
        let offset = u64::from(id) * u64::from(MAX_DATA_BYTES);
        client.send(id, &Request::Write { handle: handle.clone(), offset, data: data.clone() }).await;
    }
    for id in 0..200 {
        assert_eq!(client.status(id).await, Status::OK);
    }
    let length = std::fs::metadata(directory.path().join("f")).unwrap().len();
    assert_eq!(length, 200 * u64::from(MAX_DATA_BYTES));
}

#[tokio::test]
async fn what_was_written_is_read_by_requests_sent_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::opened(directory.path()).await;
    let (writing, reading) = (client.open("f", 2 | 8).await, client.open("f", 1).await);
    client.send(1, &Request::Write { handle: writing, offset: 0, data: "now".into() }).await;
    client.send(2, &Request::Read { handle: reading, offset: 0, length: 10 }).await;
    assert_eq!(client.status(1).await, Status::OK);
    let (_, mut fields) = client.reply().await;
    assert_eq!((fields.uint32("id"), fields.string("data")), (Ok(2), Ok("now".into())));
}

/// A FIFO tells its writer when nobody has it open for reading any more.
async fn fifo_opened_by(directory: &Path, client: &mut Client) -> tokio::net::unix::pipe::Sender {
    let path = directory.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    client.open("fifo", 1).await;
    tokio::net::unix::pipe::OpenOptions::new().open_sender(path).unwrap()
}

#[tokio::test]
async fn a_dropped_session_closes_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::opened(directory.path()).await;
    let mut fifo = fifo_opened_by(directory.path(), &mut client).await;
    client.session.abort();
    // More than a FIFO holds: this ends when the other end is closed, and with that error.
    let error = fifo.write_all(&vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn files_are_closed_when_the_peer_has_vanished() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::opened(directory.path()).await;
    let mut fifo = fifo_opened_by(directory.path(), &mut client).await;
    std::fs::write(directory.path().join("f"), vec![0; 1 << 20]).unwrap();
    let handle = client.open("f", 1).await;
    for id in 0..100 {
        client.send(id, &Request::Read { handle: handle.clone(), offset: 0, length: MAX_DATA_BYTES }).await;
    }
    let Client { reader, writer, session } = client;
    drop((reader, writer));
    let result = session.await.unwrap();
    assert!(matches!(result, Err(SftpError::Write(_))), "{result:?}");
    let error = fifo.write_all(&vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn the_documented_bound_covers_what_can_be_held() {
    let bound = 48 * 1024 * 1024;
    let spare_blocks = 8 * 256 * 1024;
    assert!(2 * REQUEST_QUEUE_BYTES + REPLY_QUEUE_BYTES + spare_blocks + 4 * MAX_PACKET_BYTES < bound);
}

/// Whether carrying out the packet cannot touch anything outside the session's directory.
fn is_harmless(packet: &[u8]) -> bool {
    let reads_only = [PacketType::LSTAT, PacketType::STAT, PacketType::REALPATH, PacketType::READLINK];
    let on_paths = [PacketType::OPEN, PacketType::SETSTAT, PacketType::EXTENDED];
    let packet_type = packet.first().copied().map(PacketType);
    let by_path = packet_type.is_some_and(|packet_type| {
        on_paths.contains(&packet_type)
            || (PacketType::OPENDIR.0..=PacketType::SYMLINK.0).contains(&packet_type.0)
    });
    packet_type.is_some_and(|packet_type| reads_only.contains(&packet_type))
        || !by_path
        || !packet.iter().any(|byte| matches!(byte, b'/' | b'.'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_packets_hang_or_panic_a_session(
        packets in vec((0_u8..25, vec(prop_oneof![Just(0_u8), Just(4), any::<u8>()], 4..60)), 1..20),
        behind in vec(any::<u8>(), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut client = Client::opened(directory.path()).await;
            for (packet_type, body) in packets {
                // 21 and above stand for extended requests and numbers nobody knows.
                let packet_type = if packet_type > 22 { 200 } else { packet_type };
                let packet = [&[packet_type], body.as_slice()].concat();
                if is_harmless(&packet) {
                    client.packet(&packet).await;
                }
            }
            client.writer.write_all(&behind).await.unwrap();
            // However it ended, it ended by itself.
            let (result, _) = client.end().await;
            assert!(!matches!(result, Err(SftpError::WorkerEnded)));
        });
    }

    #[test]
    fn no_bytes_hang_or_panic_a_session(bytes in vec(any::<u8>(), 0..500)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut client = Client::start(Path::new("/nonexistent"));
            // A session that has seen enough may close before all is written.
            let _ = client.writer.write_all(&bytes).await;
            let (result, _) = client.end().await;
            assert!(!matches!(result, Err(SftpError::WorkerEnded)));
        });
    }
}

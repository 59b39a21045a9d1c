//! The test vectors of `docs/protocol.md`, checked against the code in both directions.
//!
//! The files in `vectors/` hold blocks: a title in brackets, then lines of a keyword and a value, where a long value
//! goes on in further lines with the same keyword. Each test builds the blocks that the code makes and compares
//! them with its file, so that a changed byte is a changed line in review; then it reads the file's bytes back.
//!
//! The folders of `vectors/pinned/` are the files as they were at other releases.

#[path = "vectors/payload.rs"]
mod payload;
#[path = "vectors/pinned.rs"]
mod pinned;
#[path = "vectors/shapes.rs"]
mod shapes;

use bytes::{Bytes, BytesMut};
use converge_proto::{
    CertificatePin, Frame, FrameType, HostKey, Id, VarInt,
    cluster::{Ask, Forward, Packet, Packets},
    frame::FrameError,
    host_key::sign,
    message::reencode,
    rendezvous::{
        AgentInfo, Bye, Challenge, ClientInfo, Connect, Connected, ExpiryWarning, Found, Goaway, Incoming,
        Limits, Lookup, Message, Ping, Pong, Reassigned, RefusalCode, Refused, Register, Registered, Request,
        Response, SessionKind, Status, Token, Waiting, proof_over_challenge, proof_over_exporter,
    },
    session::{Ack, Attach, Attached, FirstBytes, Notice, Reset, Secret, SessionId, Severity},
};
use data_encoding::HEXLOWER;
use minicbor::{Decoder, data::Type};
use sha2::{Digest, Sha256};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::fmt::Write as _;

const FRAMES: &str = include_str!("vectors/frames.txt");
const READING: &str = include_str!("vectors/reading.txt");
const VARINTS: &str = include_str!("vectors/varints.txt");
const NAMES: &str = include_str!("vectors/names.txt");
const SHAPES: &str = include_str!("vectors/shapes.txt");
const SPECIFICATION: &str = include_str!("../../docs/protocol.md");

const SEED: [u8; 32] = [1; 32];
const EXPORTER: [u8; 32] = [2; 32];
const SESSION: SessionId = SessionId([4; 16]);
const SECRET: Secret = Secret([5; 16]);
const CHALLENGE: Challenge = Challenge { nonce: [3; 32] };

#[test]
fn every_message_is_encoded_to_its_vector_and_back() {
    let expected: Vec<_> = messages().iter().map(MessageVector::block).collect();
    assert_file(FRAMES, &expected);
    for (block, message) in blocks(FRAMES).iter().zip(messages()) {
        let mut wire = BytesMut::from(&bytes(block, "wire")[..]);
        let frame = Frame::decode(&mut wire).expect("a frame").expect("the whole frame");
        assert!(wire.is_empty(), "{block}");
        assert_eq!(frame, message.frame, "{block}");
        assert!((message.reads_back)(&frame), "{block}");
    }
}

#[test]
fn every_frame_type_has_a_vector() {
    for (known, name) in FrameType::KNOWN {
        assert!(messages().iter().any(|vector| vector.frame.frame_type == *known), "{name} has no vector");
    }
}

#[test]
fn what_newer_or_broken_peers_send_is_read_as_specified() {
    let expected: Vec<_> = readings().iter().map(|(title, wire)| reading_block(title, wire)).collect();
    assert_file(READING, &expected);
}

#[test]
fn varints_have_their_vectors() {
    let edges = [0, 37, 0x3f, 0x40, 15_293, 0x3fff, 0x4000, 494_878_333, 0x3fff_ffff, 0x4000_0000];
    let values = edges.into_iter().chain([151_288_809_941_952_652, VarInt::MAX.get()]);
    let expected = values.fold(Block::new("varints"), |block, value| {
        let mut wire = Vec::new();
        VarInt::try_from(value).expect("62 bits").encode(&mut wire);
        block.line(&value.to_string(), &HEXLOWER.encode(&wire))
    });
    assert_file(VARINTS, &[expected.text]);
    for line in VARINTS.lines().skip(1) {
        let (value, wire) = line.split_once(' ').expect("a number and its bytes");
        let (decoded, len) = VarInt::decode(&hex(wire)).expect("a varint");
        assert_eq!((decoded.to_string().as_str(), len), (value, wire.len() / 2));
    }
}

#[test]
fn ids_keys_pins_and_proofs_have_their_vectors() {
    let ids = [[0; 6], [127, 0, 0, 1, 63, 84], [255; 6]].map(|random| {
        let id = Id::generate(random);
        Block::new(&format!("generated ID {id}")).line("random", &HEXLOWER.encode(&random)).text
    });
    assert_file(
        NAMES,
        &[&ids[..], &[host_key_block(), exporter_block(), challenge_block(), pin_block()]].concat(),
    );

    let block = |wanted: &str| blocks(NAMES).into_iter().find(|block| title(block) == wanted).expect(wanted);
    let host_key = HostKey::from_blob(&bytes(block("host key"), "blob")).expect("a host key");
    assert_eq!(host_key.fingerprint().to_string(), value(block("host key"), "fingerprint"));
    for proof in ["proof over the exporter", "proof over a challenge"].map(block) {
        let signature = bytes(proof, "signature");
        assert!(host_key.verify(&value(proof, "namespace"), &bytes(proof, "signed"), &signature), "{proof}");
    }
    let pin: CertificatePin = value(block("certificate pin"), "pin").parse().expect("a pin");
    assert_eq!(pin.0.to_vec(), bytes(block("certificate pin"), "sha256"));
}

#[test]
fn the_specification_contains_every_vector() {
    for block in [VARINTS, NAMES, FRAMES, READING].iter().flat_map(|file| blocks(file)) {
        assert!(SPECIFICATION.contains(&format!("\n{block}\n")), "docs/protocol.md lacks\n\n{block}\n");
    }
}

#[test]
fn the_specification_lists_every_number() {
    for (FrameType(number), name) in FrameType::KNOWN {
        let row = format!("\n| `{:#04x}` | [{name}](#{}) |", number.get(), name.to_lowercase());
        assert!(SPECIFICATION.contains(&row) && SPECIFICATION.contains(&format!("\n### {name}\n")), "{name}");
    }
    for (RefusalCode(number), name) in RefusalCode::KNOWN {
        let later = if RefusalCode(*number).may_pass() { "yes" } else { "no" };
        assert!(SPECIFICATION.contains(&format!("\n| {number} | {name} | {later} |")), "{name}");
    }
}

/// One message and what its bytes must be read as.
struct MessageVector {
    title: &'static str,
    frame: Frame,
    reads_back: Box<dyn Fn(&Frame) -> bool>,
}

impl MessageVector {
    fn of<M: Message + PartialEq + 'static>(title: &'static str, message: M) -> Self {
        let frame = message.to_frame();
        Self {
            title,
            frame,
            reads_back: Box::new(move |frame| M::from_frame(frame).as_ref() == Ok(&message)),
        }
    }

    /// A frame whose payload is no message.
    fn bytes(title: &'static str, frame_type: FrameType, payload: &'static [u8]) -> Self {
        let frame = Frame { frame_type, payload: Bytes::from_static(payload) };
        Self { title, frame, reads_back: Box::new(move |frame| frame.payload == payload) }
    }

    fn block(&self) -> String {
        assert!(self.title.starts_with(&self.frame.frame_type.to_string()), "{}", self.title);
        let payload = if [FrameType::DATA, FrameType::FIN].contains(&self.frame.frame_type) {
            ("bytes", HEXLOWER.encode(&self.frame.payload))
        } else {
            ("cbor", notation(&self.frame.payload))
        };
        Block::new(self.title)
            .line(payload.0, &payload.1)
            .line("wire", &HEXLOWER.encode(&self.frame.to_bytes()))
            .text
    }
}

/// Every message, with no more than it must have and with all it can have.
#[allow(clippy::too_many_lines)] // A table.
fn messages() -> Vec<MessageVector> {
    let bare_agent = || AgentInfo { software: "converge-agent/0.1.0".into_text(), ..AgentInfo::default() };
    let agent = || AgentInfo {
        host: Some("runner-7".into_text()),
        platform: Some("linux x86_64".into_text()),
        job: Some("octocat/hello-world: test #3".into_text()),
        job_url: Some("https://ci.example/octocat/hello-world/runs/3".into_text()),
        ci: Some("GitHub Actions".into_text()),
        ..bare_agent()
    };
    let bare_client = || ClientInfo { software: "converge/0.1.0".into_text(), address: None };
    let client = || ClientInfo { address: Some("192.0.2.7:50022".into_text()), ..bare_client() };
    let wanted = || "build-7".parse::<Id>().expect("an ID");
    let generated = || Id::generate([127, 0, 0, 1, 63, 84]);
    let proof = proof_over_exporter(&key_pair(), &EXPORTER).expect("a signature");
    let raw = SessionKind::Raw;
    let token = || "eyJhbGciOiJub25lIn0.e30.".parse::<Token>().expect("a token");
    vec![
        MessageVector::of(
            "Register, least",
            Register {
                wanted: None,
                host_key: host_key(),
                proof: None,
                agent: bare_agent(),
                token: None,
                fell_back: None,
            },
        ),
        MessageVector::of(
            "Register, all fields",
            Register {
                wanted: Some(wanted()),
                host_key: host_key(),
                proof: Some(proof),
                agent: agent(),
                token: Some(token()),
                fell_back: Some(true),
            },
        ),
        MessageVector::of("Challenge", CHALLENGE),
        MessageVector::of("Proof", proof_over_challenge(&key_pair(), &CHALLENGE).expect("a signature")),
        MessageVector::of(
            "Registered, least",
            Registered {
                id: wanted(),
                reassigned: None,
                keepalive_ms: 15_000,
                limits: Limits { sessions: 64 },
                public_url: None,
            },
        ),
        MessageVector::of(
            "Registered, all fields",
            Registered {
                id: generated(),
                reassigned: Some(Reassigned::HeldByAnotherKey),
                keepalive_ms: 20_000,
                limits: Limits { sessions: 1000 },
                public_url: Some("https://relay.example/sub".into_text()),
            },
        ),
        MessageVector::of(
            "Refused",
            Refused { code: RefusalCode::NO_SUCH_ID, text: "no agent has this ID".into_text() },
        ),
        MessageVector::of(
            "Connect, least",
            Connect {
                id: wanted(),
                kind: raw,
                client: bare_client(),
                wait_ms: 0,
                session: None,
                token: None,
                resume: None,
                fell_back: None,
            },
        ),
        MessageVector::of(
            "Connect, all fields",
            Connect {
                id: wanted(),
                kind: SessionKind::Resumable,
                client: client(),
                wait_ms: 60_000,
                session: Some(SESSION),
                token: Some(token()),
                resume: Some(true),
                fell_back: Some(false),
            },
        ),
        MessageVector::of("Lookup, least", Lookup { id: wanted(), wait_ms: 60_000, token: None }),
        MessageVector::of(
            "Lookup, all fields",
            Lookup { id: wanted(), wait_ms: 60_000, token: Some(token()) },
        ),
        MessageVector::of("Connected, least", Connected { host_key: host_key(), agent: bare_agent() }),
        MessageVector::of("Connected, all fields", Connected { host_key: host_key(), agent: agent() }),
        MessageVector::of("Waiting", Waiting { left_ms: 57_000 }),
        MessageVector::of("Found, least", Found { host_key: host_key(), agent: bare_agent() }),
        MessageVector::of("Found, all fields", Found { host_key: host_key(), agent: agent() }),
        MessageVector::of("Incoming, least", Incoming { session: 0, kind: raw, client: bare_client() }),
        MessageVector::of(
            "Incoming, all fields",
            Incoming { session: u64::MAX, kind: raw, client: client() },
        ),
        MessageVector::of("Ping", Ping { token: 7 }),
        MessageVector::of("Ping with the largest token", Ping { token: u64::MAX }),
        MessageVector::of("Pong", Pong { token: 7 }),
        MessageVector::of(
            "Goaway, least",
            Goaway {
                reason: "the relay is being updated".into_text(),
                retry_after_ms: 2000,
                try_first: None,
            },
        ),
        MessageVector::of(
            "Goaway, all fields",
            Goaway {
                reason: "the relay is being updated".into_text(),
                retry_after_ms: 2000,
                try_first: Some("https://relay2.example:4433".into_text()),
            },
        ),
        MessageVector::of("Bye", Bye { reason: "the job has ended".into_text() }),
        MessageVector::of("Status, least", Status::default()),
        MessageVector::of(
            "Status, all fields",
            Status { users: 2, held: true, expires_ms: Some(600_000), clock: Some("idle".into_text()) },
        ),
        MessageVector::of(
            "ExpiryWarning",
            ExpiryWarning { remaining_ms: 60_000, reason: "nobody did anything".into_text() },
        ),
        MessageVector::of(
            "Request to stop",
            Request { number: 1, stop: Some("the farm is full".into_text()), ..Request::default() },
        ),
        MessageVector::of(
            "Request to extend",
            Request { number: 2, extend_ms: Some(3_600_000), ..Request::default() },
        ),
        MessageVector::of(
            "Request to show a message",
            Request { number: 3, message: Some("back at noon".into_text()), ..Request::default() },
        ),
        MessageVector::of("Response, done", Response { number: 1, refusal: None }),
        MessageVector::of(
            "Response, not done",
            Response { number: 4, refusal: Some("this agent does not know the request".into_text()) },
        ),
        MessageVector::of(
            "Forward, least",
            Forward { address: "198.51.100.7:50000".into_text(), is_websocket: false, token: None },
        ),
        MessageVector::of(
            "Forward, all fields",
            Forward {
                address: "[2001:db8::7]:50000".into_text(),
                is_websocket: true,
                token: Some("team".into_text()),
            },
        ),
        MessageVector::of("Ask, least", Ask { may_write: false, token: None, ids: None }),
        MessageVector::of(
            "Ask, all fields",
            Ask { may_write: true, token: Some("team".into_text()), ids: Some("team-*".into_text()) },
        ),
        MessageVector::of("Packets", Packets {}),
        MessageVector::of(
            "Packet, received",
            Packet::new(false, "198.51.100.7:50000".parse().expect("an address"), &[0x40, 1, 2, 3]),
        ),
        MessageVector::of(
            "Packet, to be sent",
            Packet::new(true, "[2001:db8::7]:50000".parse().expect("an address"), &[0x40, 4, 5, 6]),
        ),
        MessageVector::of(
            "Attach, the first",
            Attach {
                session: SESSION,
                secret: SECRET,
                attempt: 0,
                resume: false,
                received: 0,
                limit: 4_194_304,
                first: None,
            },
        ),
        MessageVector::of(
            "Attach, with the first bytes",
            Attach {
                session: SESSION,
                secret: SECRET,
                attempt: 0,
                resume: false,
                received: 0,
                limit: 4_194_304,
                first: Some(FirstBytes::of(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
            },
        ),
        MessageVector::of(
            "Attach, a later one",
            Attach {
                session: SESSION,
                secret: SECRET,
                attempt: 3,
                resume: true,
                received: 1000,
                limit: 4_195_304,
                first: None,
            },
        ),
        MessageVector::of("Attached", Attached { received: 2000, limit: 4_196_304, start: 1200 }),
        MessageVector::bytes("Data", FrameType::DATA, b"SSH-2.0-OpenSSH_9.2\r\n"),
        MessageVector::of("Ack", Ack { received: 2021, limit: 4_196_325 }),
        MessageVector::bytes("Fin", FrameType::FIN, b""),
        MessageVector::of(
            "Reset",
            Reset { code: RefusalCode::EXPIRED, text: "nobody came back".into_text() },
        ),
        MessageVector::of(
            "Notice, least",
            Notice { severity: Severity::Info, text: "hello".into_text(), remaining_ms: None },
        ),
        MessageVector::of(
            "Notice, all fields",
            Notice {
                severity: Severity::Warning,
                text: "this job ends in 5 minutes".into_text(),
                remaining_ms: Some(300_000),
            },
        ),
    ]
}

/// Bytes that this version never writes, but must read, skip or refuse.
fn readings() -> Vec<(&'static str, Bytes)> {
    let nulls = [&hex("a2 00 5833")[..], host_key().blob(), &hex("01 a3 00 636a6f62 01 f6 02 f6")].concat();
    vec![
        ("a field of a newer peer", framed(FrameType::PING, "a2 00 07 09 820102")),
        ("a field of a newer peer with a negative key", framed(FrameType::PING, "a2 20 a10102 00 07")),
        (
            "fields of a newer peer with every kind of value",
            framed(
                FrameType::PING,
                "a6 00 07 05 9f 80 bf 6161 20 ff ff 06 c1 fb3ff8000000000000 07 5f 4100 4101 ff 08 f7 09 f0",
            ),
        ),
        (
            "a field of a newer peer in a map of its own",
            framed(FrameType::INCOMING, "a3 00 00 01 00 02 a2 00 6162 07 a1 00 82 01 f5"),
        ),
        (
            "optional fields that are null",
            Frame { frame_type: FrameType::FOUND, payload: nulls.into() }.to_bytes(),
        ),
        ("a map of indefinite length", framed(FrameType::PING, "bf 00 07 ff")),
        ("a value in more bytes than it needs", framed(FrameType::PING, "a1 00 1b0000000000000007")),
        ("a type and a length in more bytes than they need", hex("4020 80000003 a10007")),
        (
            "a session kind of a newer client",
            framed(FrameType::CONNECT, "a4 00 6161 01 02 02 a1 00 6162 03 00"),
        ),
        ("a refusal code of a newer relay", framed(FrameType::REFUSED, "a2 00 1863 01 613f")),
        ("a text with a control character", framed(FrameType::BYE, "a1 00 62 0761")),
        ("a severity of a newer agent", framed(FrameType::NOTICE, "a2 00 09 01 613f")),
        (
            "a session ID of another length",
            framed(FrameType::CONNECT, "a5 00 6161 01 01 02 a1 00 6162 03 00 04 41 00"),
        ),
        ("an unknown odd frame", hex("4041 02 ffff")),
        ("an unknown even frame", hex("4040 02 ffff")),
        ("a key that is not an integer", framed(FrameType::PING, "a1 6130 07")),
        ("a field that must be there and is not", framed(FrameType::PING, "a0")),
        ("a field that must be there and is null", framed(FrameType::PING, "a1 00 f6")),
        ("a field of another type", framed(FrameType::PING, "a1 00 6137")),
        ("bytes behind the map", framed(FrameType::PING, "a1 00 07 00")),
        ("a text that is not UTF-8", framed(FrameType::BYE, "a1 00 61ff")),
        ("an ID that is none", framed(FrameType::LOOKUP, "a2 00 622d61 01 00")),
        ("a length one over the limit", hex("20 80010001")),
        ("the largest length there is", hex("20 ffffffffffffffff")),
        ("a frame that is not whole yet", hex("20 03 a100")),
    ]
}

fn framed(frame_type: FrameType, payload: &str) -> Bytes {
    Frame { frame_type, payload: hex(payload) }.to_bytes()
}

fn hex(digits: &str) -> Bytes {
    HEXLOWER.decode(digits.replace(' ', "").as_bytes()).expect("hexadecimal digits").into()
}

fn reading_block(title: &str, wire: &[u8]) -> String {
    Block::new(title).line("wire", &HEXLOWER.encode(wire)).line("read", &reading(wire)).text
}

/// What a receiver makes of one frame, in words.
fn reading(wire: &[u8]) -> String {
    let frame = match Frame::decode(&mut BytesMut::from(wire)) {
        Ok(Some(frame)) => frame,
        Ok(None) => return "wait for more bytes".to_owned(),
        Err(error) => return refusal(&error).to_owned(),
    };
    match reencode(&frame) {
        Ok(known) => format!("{} {}", known.frame_type, notation(&known.payload)),
        Err(FrameError::Unsupported { frame_type }) if frame_type.may_be_skipped() => "skip it".to_owned(),
        Err(error) => refusal(&error).to_owned(),
    }
}

fn refusal(error: &FrameError) -> &'static str {
    match error {
        FrameError::TooLong { .. } => "protocol violation: too long",
        FrameError::Malformed { .. } => "protocol violation: malformed",
        FrameError::Unsupported { .. } => "unsupported",
        FrameError::Unexpected { .. } => "protocol violation: not now",
    }
}

fn host_key_block() -> String {
    Block::new("host key")
        .line("seed", &HEXLOWER.encode(&SEED))
        .line("blob", &HEXLOWER.encode(host_key().blob()))
        .line("openssh", &host_key().to_openssh())
        .line("fingerprint", &host_key().fingerprint().to_string())
        .text
}

fn exporter_block() -> String {
    let proof = proof_over_exporter(&key_pair(), &EXPORTER).expect("a signature").0;
    proof_block("proof over the exporter", "register-over-exporter@converge", &EXPORTER, &proof)
}

fn challenge_block() -> String {
    let proof = proof_over_challenge(&key_pair(), &CHALLENGE).expect("a signature").signature.0;
    proof_block("proof over a challenge", "register-over-challenge@converge", &CHALLENGE.nonce, &proof)
}

fn proof_block(title: &str, namespace: &str, signed: &[u8], signature: &[u8]) -> String {
    assert_eq!(sign(&key_pair(), namespace, signed).expect("a signature"), signature, "the namespace");
    Block::new(title)
        .line("namespace", namespace)
        .line("signed", &HEXLOWER.encode(signed))
        .line("signature", &HEXLOWER.encode(signature))
        .text
}

/// The pin of the certificate whose key is that of the host key above, in the form of RFC 8410.
fn pin_block() -> String {
    let public_key = host_key().blob()[19..].to_vec();
    let spki = [hex("302a300506032b6570032100").to_vec(), public_key].concat();
    let digest = Sha256::digest(&spki);
    Block::new("certificate pin")
        .line("spki", &HEXLOWER.encode(&spki))
        .line("sha256", &HEXLOWER.encode(&digest))
        .line("pin", &CertificatePin(digest.into()).to_string())
        .text
}

fn key_pair() -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&SEED)), "").expect("a key pair")
}

fn host_key() -> HostKey {
    HostKey::new(key_pair().public_key()).expect("an Ed25519 key")
}

/// A literal as any of the bounded texts.
trait IntoText<T> {
    fn into_text(self) -> T;
}

impl<const MAX: usize> IntoText<converge_proto::Text<MAX>> for &str {
    fn into_text(self) -> converge_proto::Text<MAX> {
        converge_proto::Text::new(self)
    }
}

/// A payload in the diagnostic notation of RFC 8949 section 8.
fn notation(cbor: &[u8]) -> String {
    let (mut decoder, mut out) = (Decoder::new(cbor), String::new());
    note_item(&mut decoder, &mut out).expect("CBOR of our own");
    assert_eq!(decoder.position(), cbor.len());
    out
}

fn note_item(decoder: &mut Decoder<'_>, out: &mut String) -> Result<(), minicbor::decode::Error> {
    match decoder.datatype()? {
        Type::Map => {
            out.push('{');
            for index in 0..decoder.map()?.expect("our maps have definite lengths") {
                out.push_str(if index == 0 { "" } else { ", " });
                note_item(decoder, out)?;
                out.push_str(": ");
                note_item(decoder, out)?;
            }
            out.push('}');
        }
        Type::Bytes => write!(out, "h'{}'", HEXLOWER.encode(decoder.bytes()?)).expect("a string"),
        Type::String => write!(out, "{:?}", decoder.str()?).expect("a string"),
        Type::Bool => write!(out, "{}", decoder.bool()?).expect("a string"),
        _ => write!(out, "{}", decoder.u64()?).expect("a string"),
    }
    Ok(())
}

/// A block under construction.
struct Block {
    text: String,
}

impl Block {
    /// Longer values go on in the next line.
    const VALUE_CHARACTERS: usize = 96;

    fn new(title: &str) -> Self {
        Self { text: format!("[{title}]") }
    }

    fn line(mut self, keyword: &str, value: &str) -> Self {
        let characters: Vec<char> = value.chars().collect();
        for part in characters.chunks(Self::VALUE_CHARACTERS) {
            let part: String = part.iter().collect();
            self.text += &format!("\n{keyword} {}", part.trim());
        }
        self
    }
}

fn blocks(file: &str) -> Vec<&str> {
    file.trim_end().split("\n\n").collect()
}

fn title(block: &str) -> &str {
    block.lines().next().expect("a title").trim_matches(['[', ']'])
}

fn value(block: &str, keyword: &str) -> String {
    block.lines().filter_map(|line| line.strip_prefix(keyword)?.strip_prefix(' ')).collect()
}

fn bytes(block: &str, keyword: &str) -> Bytes {
    hex(&value(block, keyword))
}

/// Compares block by block, so that a failure shows the block as it should be.
fn assert_file(file: &str, expected: &[String]) {
    assert_eq!(blocks(file).len(), expected.len(), "the code makes\n\n{}\n", expected.join("\n\n"));
    for (found, expected) in blocks(file).iter().zip(expected) {
        assert!(found == expected, "the file has\n\n{found}\n\nwhere the code makes\n\n{expected}\n");
    }
}

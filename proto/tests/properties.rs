//! What must hold for every input, tried on many: streams cut anywhere, damage, all messages, the bodies of the
//! fuzz targets, and the table of IDs against a model that is simple enough to be seen to be right.

use bytes::{BufMut, BytesMut};
use converge_proto::{
    Frame, FrameType, HostKey, Id, Text, VarInt,
    cluster::{Ask, Forward, Packet, Packets},
    frame::{MAX_CONTROL_PAYLOAD_BYTES, missing_bytes},
    fuzz,
    rendezvous::{
        AgentInfo, Bye, Challenge, Claim, ClientInfo, Connect, Connected, ExpiryWarning, Found, Goaway,
        IdTable, Incoming, Limits, LinkNumber, Lookup, Message, Ping, Pong, Proof, Reassigned, RefusalCode,
        Refused, Register, Registered, Request, Response, SecretHash, SessionKind, Status, Token, Waiting,
        handshake::VerifiedAgent,
        id_table::{ReserveError, TableFull},
        messages::{Name, Signature},
    },
    session::{Ack, Attach, Attached, FirstBytes, Notice, Reset, Secret, SessionId, Severity},
};
use data_encoding::HEXLOWER;
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::{Index, select},
};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    time::{Duration, Instant},
};

proptest! {
    // A found case becomes a test of its own, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames_and_keeps_what_follows(
        frames in vec((any_frame(), 0..4u32, 0..4u32), 0..12),
        session_bytes in vec(any::<u8>(), 0..50),
        chunk_lens in vec(1usize..200, 1..40),
    ) {
        let mut wire = BytesMut::new();
        for (frame, type_form, len_form) in &frames {
            put_varint(&mut wire, frame.frame_type.0.get(), *type_form);
            put_varint(&mut wire, frame.payload.len() as u64, *len_form);
            wire.extend_from_slice(&frame.payload);
        }
        wire.extend_from_slice(&session_bytes);
        let mut carrier = Carrier { wire, arrived: BytesMut::new(), chunk_lens: chunk_lens.into_iter().cycle() };
        for (frame, ..) in frames {
            prop_assert_eq!(carrier.read_frame(), frame);
        }
        prop_assert_eq!(carrier.rest(), session_bytes);
    }

    #[test]
    fn encoded_len_is_what_is_written_and_the_shortest(frame in any_frame()) {
        let mut shortest = BytesMut::new();
        put_varint(&mut shortest, frame.frame_type.0.get(), 0);
        put_varint(&mut shortest, frame.payload.len() as u64, 0);
        shortest.extend_from_slice(&frame.payload);
        prop_assert_eq!(frame.encoded_len(), shortest.len());
        prop_assert_eq!(frame.to_bytes(), shortest);
    }

    #[test]
    fn every_message_round_trips(contents in contents()) {
        let seen = contents.messages_round_trip();
        let missing = |known: &FrameType| !seen.contains(known) && !WITHOUT_MESSAGE.contains(known);
        prop_assert!(!FrameType::KNOWN.iter().any(|(known, _)| missing(known)), "only {:?}", seen);
    }

    #[test]
    fn one_damaged_byte_never_panics(vector in select(frame_vectors()), at in any::<Index>(), value in any::<u8>()) {
        let mut wire = vector;
        let at = at.index(wire.len());
        wire[at] = value;
        fuzz::frames(&wire);
        fuzz::registration(&wire);
    }

    #[test]
    fn fuzz_bodies_hold_on_any_bytes(data in vec(any::<u8>(), 0..2000)) {
        fuzz::frames(&data);
        fuzz::texts(&data);
        fuzz::registration(&data);
        fuzz::session(&data);
    }

    #[test]
    fn fuzz_bodies_hold_on_damaged_streams(
        vectors in vec(select(frame_vectors()), 1..6),
        damage in vec(any::<Damage>(), 0..8),
    ) {
        let data = damaged(vectors.concat(), &damage);
        fuzz::frames(&data);
        fuzz::registration(&data);
    }

    #[test]
    fn fuzz_bodies_hold_on_damaged_sessions(
        step in any::<u8>(),
        frames in vec(any_session_frame(), 1..12),
        damage in vec(any::<Damage>(), 0..4),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire);
        }
        let data = damaged(wire.to_vec(), &damage);
        // The first byte says how the stream is cut, and how much this end may send.
        fuzz::session(&[&[step][..], &data].concat());
    }

    #[test]
    fn fuzz_bodies_hold_on_damaged_texts(text in select(TEXTS), damage in vec(any::<Damage>(), 0..6)) {
        fuzz::texts(text.as_bytes());
        fuzz::texts(&damaged(text.as_bytes().to_vec(), &damage));
    }

    #[test]
    fn fuzz_bodies_hold_on_any_path(
        scheme in select(&["https", "quic", "wss", "ws"]),
        path in vec(any::<char>(), 0..600),
        end in select(&["", "/client/a", "/client/a.abcdefghij234567abcd.converge"]),
    ) {
        let path: String = path.into_iter().filter(|c| !matches!(c, '?' | '#')).collect();
        fuzz::texts(format!("{scheme}://relay/{path}{end}").as_bytes());
    }

    #[test]
    fn fuzz_bodies_hold_on_any_list_of_relays(
        pieces in vec((select(&["https://", "wss://", "ws://", "://", ""]), 0u8..20, select(&["", "/", "/x", "#", "\n"])), 0..20),
        commas in vec(select(&[",", " ,", ",\t", ",,"]), 20),
    ) {
        let pieces = pieces.iter().zip(commas);
        let pieces: Vec<String> =
            pieces.map(|((scheme, host, end), comma)| format!("{scheme}relay{host}{end}{comma}")).collect();
        let text = pieces.concat();
        fuzz::texts(text.as_bytes());
        fuzz::texts(text.trim_end_matches([',', ' ', '\t']).as_bytes());
    }

    #[test]
    fn list_of_different_relays_is_read_as_it_is_printed(
        hosts in btree_set(0u8..200, 1..16), blanks in select(&["", " ", "\t"])
    ) {
        let urls: Vec<String> = hosts.iter().map(|host| format!("https://relay{host}:4433/a,b")).collect();
        let list: converge_proto::RelayUrls = urls.join(&format!("{blanks},{blanks}")).parse().expect("a list");
        prop_assert_eq!(list.count(), urls.len());
        prop_assert_eq!(list.to_string(), urls.join(","));
    }

    #[test]
    fn id_table_follows_its_model(max_ids in 1usize..5, steps in vec(any_step(), 0..60)) {
        let mut pair = TableAndModel::new(max_ids);
        for step in steps {
            pair.take(step);
        }
    }
}

/// A varint of 2^form bytes, or of as many as it needs if those are more.
fn put_varint(out: &mut BytesMut, value: u64, form: u32) {
    let needed = [1u64 << 6, 1 << 14, 1 << 30].iter().filter(|limit| value >= **limit).count();
    let form = needed.max(form as usize);
    let len = 1 << form;
    out.put_uint(value | (form as u64) << (8 * len - 2), len);
}

/// A stream whose bytes arrive in chunks, read as a peer must read: no byte beyond the frame.
struct Carrier<C> {
    wire: BytesMut,
    arrived: BytesMut,
    chunk_lens: C,
}

impl<C: Iterator<Item = usize>> Carrier<C> {
    fn read_frame(&mut self) -> Frame {
        let mut have = BytesMut::new();
        loop {
            let missing = missing_bytes(&have).expect("frames within the limit");
            assert_eq!(missing == 0, Frame::decode(&mut have.clone()).expect("good frames").is_some());
            if missing == 0 {
                let frame = Frame::decode(&mut have).expect("good frames").expect("a whole frame");
                assert!(have.is_empty(), "read beyond the frame");
                return frame;
            }
            if self.arrived.is_empty() {
                self.receive();
            }
            have.extend_from_slice(&self.arrived.split_to(missing.min(self.arrived.len())));
        }
    }

    fn receive(&mut self) {
        assert!(!self.wire.is_empty(), "wants more than was sent");
        let len = self.chunk_lens.next().expect("endless").min(self.wire.len());
        self.arrived.extend_from_slice(&self.wire.split_to(len));
    }

    fn rest(self) -> BytesMut {
        [self.arrived, self.wire].concat().as_slice().into()
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let known = select(FrameType::KNOWN).prop_map(|(known, _)| known);
    let any_type = (0..=VarInt::MAX.get(), 0u32..62).prop_map(|(number, shift)| number >> shift);
    let any_type = any_type.prop_map(|number| FrameType(VarInt::try_from(number).expect("62 bits")));
    let payload = prop_oneof![
        9 => vec(any::<u8>(), 0..300),
        1 => Just(vec![0xa5; MAX_CONTROL_PAYLOAD_BYTES]),
    ];
    (prop_oneof![known, any_type], payload)
        .prop_map(|(frame_type, payload)| Frame { frame_type, payload: payload.into() })
}

/// A frame that a session's peer may send, with numbers that are mostly near to what has happened.
fn any_session_frame() -> impl Strategy<Value = Frame> {
    let offset = || prop_oneof![9 => 0..300u64, 1 => any::<u64>()];
    let data = vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => data.prop_map(|data| Frame { frame_type: FrameType::DATA, payload: data.into() }),
        4 => (offset(), offset()).prop_map(|(received, limit)| Ack { received, limit }.to_frame()),
        1 => Just(Frame { frame_type: FrameType::FIN, payload: bytes::Bytes::new() }),
        1 => any::<u64>().prop_map(|token| Ping { token }.to_frame()),
        1 => any::<u64>().prop_map(|token| Pong { token }.to_frame()),
        1 => any::<String>().prop_map(|text| {
            Notice { severity: Severity::Info, text: Text::new(text), remaining_ms: None }.to_frame()
        }),
        1 => any::<u32>().prop_map(|code| Reset { code: RefusalCode(code), text: Text::new("") }.to_frame()),
        1 => any_frame(),
    ]
}

/// Frames whose payload is not a message.
const WITHOUT_MESSAGE: [FrameType; 2] = [FrameType::DATA, FrameType::FIN];

/// What the fields of all messages are filled with.
#[derive(Clone, Debug)]
struct Contents {
    id: Id,
    other_id: Option<Id>,
    host_key: HostKey,
    signature: Signature,
    nonce: [u8; 32],
    session: SessionId,
    secret: Secret,
    offsets: [u64; 3],
    agent: AgentInfo,
    client: ClientInfo,
    line: String,
    has_line: bool,
    numbers: [u32; 2],
    token: u64,
}

fn contents() -> impl Strategy<Value = Contents> {
    let names = (any::<String>(), option::of(any::<String>()), option::of(any::<String>()), any::<String>());
    let numbers = prop_oneof![any::<[u32; 2]>(), [0..3u32, 0..3u32].prop_map(|small| small)];
    let identity =
        (any_id(), option::of(any_id()), any::<u8>(), vec(any::<u8>(), 0..=512), any::<[u8; 32]>());
    let session = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u64; 3]>());
    (identity, names, any::<bool>(), numbers, any::<u64>(), session).prop_map(
        |(
            (id, other_id, seed, signature, nonce),
            (software, host, platform, line),
            has_line,
            numbers,
            token,
            (session, secret, offsets),
        )| {
            Contents {
                id,
                other_id,
                host_key: host_key(seed),
                signature: Signature(signature),
                nonce,
                session: SessionId(session),
                secret: Secret(secret),
                offsets,
                agent: AgentInfo {
                    software: Text::new(&software),
                    host: host.as_ref().map(Text::new),
                    job: platform.as_ref().map(Text::new),
                    job_url: host.as_ref().map(Text::new),
                    ci: platform.as_ref().map(Text::new),
                    platform: platform.map(Text::new),
                },
                client: ClientInfo { software: Text::new(software), address: host.map(Text::new) },
                line,
                has_line,
                numbers,
                token,
            }
        },
    )
}

impl Contents {
    /// Builds every message, and returns the types of those that came back unchanged.
    #[expect(clippy::too_many_lines, reason = "one of each message")]
    fn messages_round_trip(self) -> Vec<FrameType> {
        let along = self.has_line.then(|| FirstBytes::of(self.secret.0.to_vec()));
        let Self {
            id, other_id, host_key, signature, nonce, session, secret, offsets, agent, client, ..
        } = self;
        let Self { line, has_line, numbers: [first, second], token, .. } = self;
        let [received, limit, start] = offsets;
        let bearer: Option<Token> = has_line.then(|| id.as_str().parse().expect("an ID is a token"));
        let line = || Text::new(&line);
        let kind = match first {
            0 => SessionKind::Raw,
            1 => SessionKind::Resumable,
            other => SessionKind::Other(other),
        };
        let severity = match second {
            0 => Severity::Info,
            1 => Severity::Warning,
            other => Severity::Other(other),
        };
        let reassigned = match second {
            0 => None,
            1 => Some(Reassigned::HeldByAnotherKey),
            2 => Some(Reassigned::Reserved),
            3 => Some(Reassigned::ByToken),
            other => Some(Reassigned::Other(other)),
        };
        vec![
            round_trip(&Register {
                wanted: other_id,
                host_key: host_key.clone(),
                proof: has_line.then(|| signature.clone()),
                agent: agent.clone(),
                token: bearer.clone(),
                fell_back: has_line.then_some(first > second),
            }),
            round_trip(&Challenge { nonce }),
            round_trip(&Packets {}),
            round_trip(&Packet {
                is_answer: has_line,
                ip: nonce[..if has_line { 16 } else { 4 }].to_vec(),
                port: 4433,
                datagram: nonce.to_vec(),
            }),
            round_trip(&Forward {
                address: client.software.clone(),
                is_websocket: first > second,
                token: has_line.then(|| client.software.clone()),
            }),
            round_trip(&Ask {
                may_write: first > second,
                token: has_line.then(|| client.software.clone()),
                ids: has_line.then(|| client.software.clone()),
            }),
            round_trip(&Proof { signature }),
            round_trip(&Registered {
                id: id.clone(),
                reassigned,
                keepalive_ms: first,
                limits: Limits { sessions: second },
                public_url: has_line.then(line),
            }),
            round_trip(&Refused { code: RefusalCode(first), text: line() }),
            round_trip(&Connect {
                id: id.clone(),
                kind,
                client: client.clone(),
                wait_ms: second,
                session: has_line.then_some(session),
                token: bearer.clone(),
                resume: has_line.then_some(first > second),
                fell_back: has_line.then_some(second > first),
            }),
            round_trip(&Lookup { id, wait_ms: first, token: bearer.clone() }),
            round_trip(&Connected { host_key: host_key.clone(), agent: agent.clone() }),
            round_trip(&Waiting { left_ms: first }),
            round_trip(&Found { host_key, agent }),
            round_trip(&Incoming { session: token, kind, client }),
            round_trip(&Ping { token }),
            round_trip(&Pong { token }),
            round_trip(&Goaway { reason: line(), retry_after_ms: second, try_first: has_line.then(line) }),
            round_trip(&Bye { reason: line() }),
            round_trip(&Status {
                users: first,
                held: has_line,
                expires_ms: has_line.then_some(received),
                clock: has_line.then(|| Name::new("idle")),
            }),
            round_trip(&ExpiryWarning { remaining_ms: limit, reason: line() }),
            round_trip(&Request {
                number: received,
                stop: has_line.then(line),
                extend_ms: has_line.then_some(limit),
                message: has_line.then(line),
            }),
            round_trip(&Response { number: limit, refusal: has_line.then(line) }),
            round_trip(&Attach {
                session,
                secret,
                attempt: first,
                resume: has_line,
                received,
                limit,
                first: along,
            }),
            round_trip(&Attached { received, limit, start }),
            round_trip(&Ack { received, limit }),
            round_trip(&Reset { code: RefusalCode(second), text: line() }),
            round_trip(&Notice { severity, text: line(), remaining_ms: has_line.then_some(first) }),
        ]
    }
}

fn round_trip<M: Message + PartialEq + Debug>(message: &M) -> FrameType {
    let frame = message.to_frame();
    let wire = frame.to_bytes();
    assert_eq!(wire.len(), frame.encoded_len());
    let mut input = BytesMut::from(&wire[..]);
    let decoded = Frame::decode(&mut input).expect("within the limit").expect("a whole frame");
    assert!(input.is_empty());
    assert_eq!(M::from_frame(&decoded).as_ref(), Ok(message));
    decoded.frame_type
}

fn any_id() -> impl Strategy<Value = Id> {
    prop_oneof!["[a-z0-9]", "[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"].prop_map(|text| text.parse().expect("an ID"))
}

fn host_key(seed: u8) -> HostKey {
    let pair = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "");
    HostKey::new(pair.expect("a key pair").public_key()).expect("an Ed25519 key")
}

/// The bytes of all vectors of frames, good and bad.
fn frame_vectors() -> Vec<Vec<u8>> {
    let files = [include_str!("vectors/frames.txt"), include_str!("vectors/reading.txt")];
    let wire = |block: &str| {
        let digits: String = block.lines().filter_map(|line| line.strip_prefix("wire ")).collect();
        HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits")
    };
    files.iter().flat_map(|file| file.split("\n\n").map(wire)).collect()
}

const TEXTS: &[&str] = &[
    "build-7",
    "build-7.pxxtsjsceor4kt334xvf.converge",
    "https://relay.example:4433/sub/path/client/build-7.pxxtsjsceor4kt334xvf",
    "https://relay.example/client/client#pin-sha256=_RENMB0vB33hQUuPmfRBsUA_qyB7IFL70sBl5O6OfcI",
    "wss://xn--bcher-kva.example/a//b/../client/x",
    "ws://127.0.0.1:8080/client/a",
    "quic://[::1]:4433/client/a",
    "wss://b\u{fc}cher.example:443/%7e/\u{fc}/client/a",
];

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    Repeat(Index, Index),
}

impl Arbitrary for Damage {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            any::<(Index, u8)>().prop_map(|(at, value)| Self::Set(at, value)),
            any::<(Index, u8)>().prop_map(|(at, value)| Self::Insert(at, value)),
            any::<Index>().prop_map(Self::Remove),
            any::<Index>().prop_map(Self::Cut),
            any::<(Index, Index)>().prop_map(|(from, to)| Self::Repeat(from, to)),
        ]
        .boxed()
    }
}

fn damaged(mut data: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for damage in damage {
        if data.is_empty() {
            break;
        }
        let at = |index: &Index| index.index(data.len());
        match damage {
            Damage::Set(index, value) => {
                let at = at(index);
                data[at] = *value;
            }
            Damage::Insert(index, value) => data.insert(at(index), *value),
            Damage::Remove(index) => drop(data.remove(at(index))),
            Damage::Cut(index) => data.truncate(at(index)),
            Damage::Repeat(from, to) => data.extend_from_within(at(from).min(at(to))..at(to)),
        }
    }
    data
}

const GRACE: Duration = Duration::from_secs(100);
/// So few that claims meet often.
const IDS: u8 = 6;
const TOKENS: u8 = 4;
const MAX_PROMISED: usize = 2;

/// One thing that happens to the table. An `Index` picks one of the claims so far.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { key: u8, wanted: Option<u8>, token: Option<u8>, generated: [u8; 8] },
    Reserve { id: u8, token: u8, time: Duration },
    Cancel { id: u8 },
    Lose { id_of: Index, link_of: Index },
    GiveUp { id_of: Index, link_of: Index },
    Pass { time: Duration, timer_fires: bool },
}

fn any_step() -> impl Strategy<Value = Step> {
    // Mostly an ID with the link that got it, sometimes an ID with the link of another.
    let claims =
        || prop_oneof![4 => any::<Index>().prop_map(|same| (same, same)), 1 => any::<(Index, Index)>()];
    let generated = proptest::array::uniform8(0..IDS);
    prop_oneof![
        4 => (0..3u8, option::weighted(0.8, 0..IDS), option::weighted(0.4, 0..TOKENS), generated)
            .prop_map(|(key, wanted, token, generated)| Step::Claim { key, wanted, token, generated }),
        2 => (0..IDS, 0..TOKENS, 1..150u64)
            .prop_map(|(id, token, secs)| Step::Reserve { id, token, time: Duration::from_secs(secs) }),
        1 => (0..IDS).prop_map(|id| Step::Cancel { id }),
        2 => claims().prop_map(|(id_of, link_of)| Step::Lose { id_of, link_of }),
        1 => claims().prop_map(|(id_of, link_of)| Step::GiveUp { id_of, link_of }),
        2 => (0..150u64, any::<bool>())
            .prop_map(|(secs, timer_fires)| Step::Pass { time: Duration::from_secs(secs), timer_fires }),
    ]
}

/// Who has an ID, as the model sees it.
#[derive(Clone, Copy, PartialEq)]
enum Holder {
    Link(LinkNumber),
    ReservedUntil(Instant),
}

/// What the rules say about an ID.
#[derive(Clone, Copy, PartialEq)]
struct Known {
    /// The key it belongs to; nobody's yet when it is reserved.
    key: Option<u8>,
    /// The token it was reserved for.
    token: Option<u8>,
    holder: Holder,
}

fn token_of(number: u8) -> Token {
    format!("token-{number}").parse().expect("a token")
}

struct TableAndModel {
    table: IdTable,
    max_ids: usize,
    now: Instant,
    model: BTreeMap<Id, Known>,
    /// Every claim that the table granted.
    claims: Vec<(Id, LinkNumber)>,
    /// The links that hold an ID by what the table answered, whatever the model says.
    holders: BTreeMap<LinkNumber, Id>,
}

impl TableAndModel {
    #[expect(clippy::disallowed_methods)] // A first instant has to come from somewhere.
    fn new(max_ids: usize) -> Self {
        Self {
            table: IdTable::new(GRACE, max_ids, MAX_PROMISED),
            max_ids,
            now: Instant::now(),
            model: BTreeMap::new(),
            claims: Vec::new(),
            holders: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Claim { key, wanted, token, generated } => {
                self.claim(key, wanted.map(id), token, generated.map(id));
            }
            Step::Reserve { id: number, token, time } => self.reserve(id(number), token, time),
            Step::Cancel { id: number } => {
                let id = id(number);
                let is_promised = self.model.get(&id).is_some_and(|known| known.key.is_none());
                assert_eq!(self.table.cancel(&id), is_promised);
                if is_promised {
                    self.model.remove(&id);
                }
            }
            Step::Lose { id_of, link_of } => {
                let Some((id, link)) = self.pick(id_of, link_of) else { return };
                self.table.lose(&id, link, self.now);
                if let Some(known) =
                    self.model.get_mut(&id).filter(|known| known.holder == Holder::Link(link))
                {
                    known.holder = Holder::ReservedUntil(self.now + GRACE);
                    self.holders.remove(&link);
                }
            }
            Step::GiveUp { id_of, link_of } => {
                let Some((id, link)) = self.pick(id_of, link_of) else { return };
                self.table.give_up(&id, link);
                if self.model.get(&id).is_some_and(|known| known.holder == Holder::Link(link)) {
                    self.model.remove(&id);
                    self.holders.remove(&link);
                }
            }
            Step::Pass { time, timer_fires } => {
                self.now += time;
                if timer_fires {
                    self.table.handle_timeout(self.now);
                    let now = self.now;
                    self.model.retain(
                        |_, known| !matches!(known.holder, Holder::ReservedUntil(until) if until <= now),
                    );
                }
            }
        }
        let ends = self.model.values().filter_map(|known| match known.holder {
            Holder::ReservedUntil(until) => Some(until),
            Holder::Link(_) => None,
        });
        assert_eq!(self.table.poll_timeout(), ends.min());
        let promised = self.model.iter().filter(|(_, known)| known.key.is_none()).map(|(id, _)| id.clone());
        let promised: Vec<_> = promised.collect();
        assert!(self.table.promises().map(|promise| promise.id).eq(promised.iter().cloned()));
        assert!(promised.len() <= MAX_PROMISED);
        assert!(self.model.len() <= self.max_ids && self.holders.len() <= self.max_ids);
    }

    fn reserve(&mut self, id: Id, token: u8, time: Duration) {
        let until = self.now + time;
        let expected = if self.model.contains_key(&id) {
            Err(ReserveError::Taken)
        } else if self.model.values().any(|known| known.token == Some(token)) {
            Err(ReserveError::SecretTaken)
        } else if self.model.values().filter(|known| known.key.is_none()).count() == MAX_PROMISED {
            Err(ReserveError::TooMany)
        } else if self.model.len() == self.max_ids {
            Err(ReserveError::Full)
        } else {
            let holder = Holder::ReservedUntil(until);
            self.model.insert(id.clone(), Known { key: None, token: Some(token), holder });
            Ok(())
        };
        assert_eq!(self.table.reserve(id, SecretHash::of(&token_of(token)), until), expected);
    }

    fn claim(&mut self, key: u8, wanted: Option<Id>, token: Option<u8>, generated: [Id; 8]) {
        let link = LinkNumber(self.claims.len() as u64 + 1);
        let expected = self.expected_claim(key, wanted.as_ref(), token, &generated);
        let agent = VerifiedAgent {
            wanted,
            host_key: host_key(key),
            info: AgentInfo::default(),
            token: token.map(token_of),
            fell_back: None,
        };
        let mut generated = generated.into_iter();
        let claim = self.table.claim(&agent, link, || generated.next().expect("at most eight tries"));
        assert_eq!(claim, expected);
        let Ok(claim) = claim else { return };

        if let Some(replaced) = claim.replaced {
            assert_eq!(self.holders.remove(&replaced).as_ref(), Some(&claim.id), "it held this ID");
        }
        assert!(self.holders.values().all(|held| *held != claim.id), "{} has two holders", claim.id);
        let before = self.model.get(&claim.id).copied();
        if let Some(Known { key: Some(owner), .. }) = before {
            assert_eq!(owner, key, "an ID went to another key");
        }
        if let Some(Known { key: None, token: reserved_for, .. }) = before {
            assert_eq!(reserved_for, token, "a reserved ID went to another token");
        }
        self.holders.insert(link, claim.id.clone());
        let known =
            Known { key: Some(key), token: before.and_then(|known| known.token), holder: Holder::Link(link) };
        self.model.insert(claim.id.clone(), known);
        self.claims.push((claim.id, link));
    }

    /// The rules of the specification, in its order.
    fn expected_claim(
        &self,
        key: u8,
        wanted: Option<&Id>,
        token: Option<u8>,
        generated: &[Id],
    ) -> Result<Claim, TableFull> {
        let known = |id: &Id| self.model.get(id).copied();
        let is_own = |known: &Known| known.key.is_none_or(|owner| owner == key);
        let by_token = |known: &Known| token.is_some() && known.token == token && is_own(known);
        let reserved = self.model.iter().find(|(_, known)| by_token(known)).map(|(id, _)| id);
        let refusal = |id: &Id| match known(id) {
            Some(Known { key: None, .. }) => Some(Reassigned::Reserved),
            Some(Known { key: Some(owner), .. }) if owner != key => Some(Reassigned::HeldByAnotherKey),
            _ => None,
        };
        let (id, reassigned) = match (reserved, wanted) {
            (Some(reserved), wanted) => {
                (reserved, wanted.filter(|id| *id != reserved).map(|_| Reassigned::ByToken))
            }
            (None, Some(wanted)) if refusal(wanted).is_none() => (wanted, None),
            (None, wanted) => {
                let free = generated.iter().find(|id| known(id).is_none()).ok_or(TableFull)?;
                (free, wanted.and_then(refusal))
            }
        };
        let replaced = match known(id).map(|known| known.holder) {
            None if self.model.len() == self.max_ids => return Err(TableFull),
            None | Some(Holder::ReservedUntil(_)) => None,
            Some(Holder::Link(leftover)) => Some(leftover),
        };
        Ok(Claim { id: id.clone(), reassigned, replaced })
    }

    fn pick(&self, id_of: Index, link_of: Index) -> Option<(Id, LinkNumber)> {
        let len = self.claims.len();
        (len > 0).then(|| (self.claims[id_of.index(len)].0.clone(), self.claims[link_of.index(len)].1))
    }
}

fn id(number: u8) -> Id {
    format!("id-{number}").parse().expect("an ID")
}

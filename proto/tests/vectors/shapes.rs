//! What the code takes of every message, found by trying it: which fields there are, which of them must be there, of
//! which type, and how long they may be.
//!
//! This is what a peer of another release has to get along with, and the vectors alone do not say it: a number that may
//! become greater, or a text that may become longer, has the same vectors as before.

use super::{Block, SHAPES, assert_file, messages, payload::Value};
use converge_proto::{
    Frame, FrameType, cluster::CLUSTER_ALPN, message::reencode, rendezvous::RefusalCode,
    version::ProtocolVersion,
};
use std::collections::BTreeSet;

/// Longer than any field may be.
const LONGEST: usize = 65_000;

#[test]
fn every_message_has_the_shape_that_is_written_down() {
    assert_file(SHAPES, &shapes());
}

fn shapes() -> Vec<String> {
    let messages = FrameType::KNOWN.iter().map(|(frame_type, name)| shape(*frame_type, name));
    [versions(), refusal_codes()].into_iter().chain(messages).collect()
}

fn versions() -> String {
    let text = |alpn: &[u8]| String::from_utf8(alpn.to_vec()).expect("ASCII");
    let block = ProtocolVersion::ALL.iter().fold(Block::new("versions"), |block, version| {
        block.line("quic", &text(version.alpn())).line("websocket", version.subprotocol())
    });
    block.line("cluster", &text(CLUSTER_ALPN)).text
}

fn refusal_codes() -> String {
    let block = Block::new("refusal codes");
    RefusalCode::KNOWN
        .iter()
        .fold(block, |block, (RefusalCode(number), name)| block.line("code", &format!("{number} {name}")))
        .text
}

fn shape(frame_type: FrameType, name: &str) -> String {
    let block = Block::new(name).line("number", &format!("{:#04x}", frame_type.0.get()));
    let vectors = messages().into_iter().map(|vector| vector.frame);
    let frames: Vec<_> = vectors.filter(|frame| frame.frame_type == frame_type).collect();
    if !frames.iter().all(|frame| reencode(frame).is_ok()) {
        return block.line("payload", "bytes").text;
    }
    let payloads: Vec<_> = frames.iter().map(|frame| Value::read(&frame.payload)).collect();
    let mut paths = BTreeSet::new();
    for payload in &payloads {
        gather(payload, &[], &mut paths);
    }
    paths.iter().fold(block, |block, path| block.line("field", &field(frame_type, &payloads, path))).text
}

/// All paths of keys that there are.
fn gather(value: &Value, above: &[u64], paths: &mut BTreeSet<Vec<u64>>) {
    for (key, field) in value.fields() {
        let path = [above, &[key]].concat();
        gather(field, &path, paths);
        paths.insert(path);
    }
}

fn field(frame_type: FrameType, payloads: &[Value], path: &[u64]) -> String {
    let (payload, value) = payloads
        .iter()
        .find_map(|payload| Some((payload, payload.at(path)?)))
        .expect("the path is from one of them");
    let is_taken = |new: Option<&Value>| {
        let payload = payload.with(path, new).to_cbor().into();
        reencode(&Frame { frame_type, payload }).is_ok()
    };
    assert!(is_taken(Some(value)), "{frame_type} is not read with what is in its vector");
    let kind = match value {
        Value::Bool(_) => "bool".to_owned(),
        Value::Map(_) => "map".to_owned(),
        Value::Number(_) => {
            let bits = [8, 16, 32, 64].into_iter().rev();
            let is_bits_taken = |bits: &u32| is_taken(Some(&Value::Number(u64::MAX >> (64 - bits))));
            format!("uint{}", bits.into_iter().find(is_bits_taken).expect("a number that is taken"))
        }
        Value::Text(text) => {
            format!(
                "text({})",
                lengths(text.len(), |length| is_taken(Some(&Value::Text("a".repeat(length)))))
            )
        }
        Value::Bytes(bytes) => {
            let resized = |length| {
                let mut bytes = bytes.clone();
                bytes.resize(length, 0);
                Value::Bytes(bytes)
            };
            format!("bytes({})", lengths(bytes.len(), |length| is_taken(Some(&resized(length)))))
        }
    };
    let keys: Vec<_> = path.iter().map(ToString::to_string).collect();
    let optional = if is_taken(None) { "?" } else { "" };
    format!("{}{optional} {kind}", keys.join("."))
}

/// The lengths around one that is taken.
fn lengths(taken: usize, is_taken: impl Fn(usize) -> bool) -> String {
    let least = bisect(0, taken, &is_taken);
    // The first that is too long.
    let end = bisect(taken, LONGEST, |length| !is_taken(length));
    match (least, end - 1) {
        (least, most) if least == most => least.to_string(),
        (least, most) if most + 1 >= LONGEST => format!("{least}-"),
        (least, most) => format!("{least}-{most}"),
    }
}

/// The first number for which it holds, if from there on it holds up to the end.
fn bisect(mut from: usize, mut end: usize, holds: impl Fn(usize) -> bool) -> usize {
    while from < end {
        let middle = usize::midpoint(from, end);
        if holds(middle) { end = middle } else { from = middle + 1 }
    }
    from
}

//! Frames, and the messages in them.

use crate::harness::Work;
use bytes::{Bytes, BytesMut};
use converge_proto::{
    Frame, FrameType,
    rendezvous::{ClientInfo, Connect, Message, SessionKind, messages::Name},
    session::SessionId,
};
use std::hint::black_box;

const FRAMES: usize = 1000;

fn small() -> Frame {
    Frame { frame_type: FrameType::DATA, payload: Bytes::from_static(&[7; 64]) }
}

pub(crate) fn encode() -> Work {
    let frame = small();
    let mut out = BytesMut::with_capacity(FRAMES * frame.encoded_len());
    Box::new(move || {
        out.clear();
        (0..FRAMES).for_each(|_| black_box(&frame).encode(&mut out));
        black_box(&out);
    })
}

pub(crate) fn decode() -> Work {
    let bytes = small().to_bytes().repeat(FRAMES);
    Box::new(move || {
        let mut input = BytesMut::from(black_box(&bytes[..]));
        while let Some(frame) = Frame::decode(&mut input).unwrap() {
            black_box(frame);
        }
    })
}

pub(crate) fn connect() -> Work {
    let connect = Connect {
        id: "build-4711".parse().unwrap(),
        kind: SessionKind::Resumable,
        client: ClientInfo { software: Name::new("converge/0.1.0"), address: None },
        wait_ms: 30_000,
        session: Some(SessionId([1; 16])),
        token: None,
        resume: Some(false),
        fell_back: Some(false),
    };
    Box::new(move || {
        let mut bytes = BytesMut::from(black_box(&connect).to_frame().to_bytes());
        let frame = Frame::decode(&mut bytes).unwrap().unwrap();
        black_box(Connect::from_frame(&frame).unwrap());
    })
}

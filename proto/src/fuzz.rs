//! The bodies of the fuzz targets in `fuzz/`. Each is a plain function, so that ordinary tests run it too.

use crate::{
    Address, Frame, Id, RelayUrl, RelayUrls,
    frame::missing_bytes,
    message::reencode,
    rendezvous::{HandshakeStep, RegisterHandshake, handshake::ChannelBinding},
    session::{Attached, Session},
};
use bytes::{Bytes, BytesMut};

/// Any bytes as a stream of frames: no panic, nothing read beyond a frame, and what decodes encodes to itself.
pub fn frames(data: &[u8]) {
    let mut input = BytesMut::from(data);
    loop {
        let before = input.len();
        let missing = missing_bytes(&input);
        let Ok(Some(frame)) = Frame::decode(&mut input) else {
            assert_eq!(input.len(), before, "nothing is taken without a frame");
            assert_ne!(missing, Ok(0), "a whole frame is a frame");
            return;
        };
        assert!(before - input.len() >= frame.encoded_len(), "a longer form of a varint at the most");
        let mut again = BytesMut::from(&frame.to_bytes()[..]);
        assert_eq!(Frame::decode(&mut again), Ok(Some(frame.clone())));
        payload(&frame);
    }
}

/// A payload that decodes as the message of its type encodes to a payload that means the same.
fn payload(frame: &Frame) {
    if let Ok(once) = reencode(frame) {
        assert_eq!(reencode(&once).as_ref(), Ok(&once));
    }
}

/// Any text as an address, an ID, a relay URL and a list of those: what parses prints as something that parses to the same.
pub fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(relay) = text.parse::<RelayUrl>() {
        assert_eq!(relay.to_string().parse::<RelayUrl>(), Ok(relay));
    }
    if let Ok(relays) = text.parse::<RelayUrls>() {
        assert!((1..=RelayUrls::MAX).contains(&relays.count()));
        assert_eq!(relays.to_string().parse::<RelayUrls>(), Ok(relays));
    }
}

/// Any bytes as the frames of a registration: nobody is verified without a signature, which no fuzzer makes.
pub fn registration(data: &[u8]) {
    let mut handshake = RegisterHandshake::new(ChannelBinding::None, [7; 32]);
    let mut input = BytesMut::from(data);
    while let Ok(Some(frame)) = Frame::decode(&mut input) {
        match handshake.handle_frame(&frame) {
            Ok(HandshakeStep::SendChallenge(_)) => {}
            Ok(HandshakeStep::Verified(agent)) => unreachable!("verified {agent:?} by chance"),
            Err(_) => return,
        }
    }
}

/// Any bytes as what a session's peer sends, cut at will: no panic, no more bytes out than went in, and nothing after
/// the session is over.
#[allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.
pub fn session(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let now = std::time::Instant::now();
    let mut session = Session::client(now);
    let attached = Attached { received: 0, limit: u64::from(*step), start: 0 };
    assert_eq!(session.attach(&attached, now), Ok(()), "a peer may have nothing");
    session.write(data);
    session.finish();
    let mut read = 0;
    for chunk in data.chunks(usize::from(*step).max(1)) {
        let handled = session.handle_chunk(Bytes::copy_from_slice(chunk), now);
        while session.poll_transmit(now).is_some() {}
        read += session.read().map_or(0, |piece| piece.len());
        if handled.is_err() {
            assert!(session.error().is_some() && session.room() == 0 && !session.is_readable());
            return;
        }
    }
    assert!(read <= data.len());
}

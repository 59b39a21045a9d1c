//! A person at one end of a session who types, and at the other what echoes.

use converge_proto::session::{Attach, Secret, Session, SessionId};
use quinn_proto::{Connection, StreamId};
use std::{
    iter,
    time::{Duration, Instant},
};

/// About what OpenSSH makes of a key.
const KEY_BYTES: usize = 60;

/// One end of a session on one stream.
pub(super) struct Speaker {
    session: Session,
    part: Part,
}

enum Part {
    /// Types the next key when the echo of the last is there.
    Types(Typed),
    Echoes,
}

#[derive(Default)]
struct Typed {
    last: Option<Instant>,
    /// How much of the last one's echo there is.
    echoed: usize,
    /// How long each echo took.
    times: Vec<Duration>,
}

impl Speaker {
    /// Both ends of a session, which are attached.
    pub(super) fn pair(now: Instant) -> [Self; 2] {
        let (mut client, mut agent) = (Session::client(now), Session::agent());
        let (received, limit) = client.offsets();
        let (session, secret) = (SessionId([1; 16]), Secret([2; 16]));
        let attach = Attach { session, secret, attempt: 0, resume: false, received, limit, first: None };
        let attached = agent.accept(&attach, now).unwrap();
        client.attach(&attached, now).unwrap();
        [(client, Part::Types(Typed::default())), (agent, Part::Echoes)]
            .map(|(session, part)| Self { session, part })
    }

    /// How long each echo took so far; none for the end that echoes.
    pub(super) fn times(&self) -> &[Duration] {
        match &self.part {
            Part::Types(typed) => &typed.times,
            Part::Echoes => &[],
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
    }

    /// Takes what has arrived, answers it, and sends what there is to send.
    pub(super) fn work(&mut self, now: Instant, connection: &mut Connection, stream: StreamId) {
        let mut receiving = connection.recv_stream(stream);
        let mut chunks = receiving.read(true).unwrap();
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            self.session.handle_chunk(chunk.bytes, now).unwrap();
        }
        let _ = chunks.finalize();
        let session = &mut self.session;
        let arrived: Vec<_> = iter::from_fn(|| session.read()).flatten().collect();
        match &mut self.part {
            Part::Echoes => assert_eq!(session.write(&arrived), arrived.len()),
            Part::Types(typed) => {
                typed.echoed += arrived.len();
                if typed.last.is_none() || typed.echoed == KEY_BYTES {
                    typed.times.extend(typed.last.map(|last| now - last));
                    typed.last = Some(now);
                    typed.echoed = 0;
                    assert_eq!(session.write(&[0; KEY_BYTES]), KEY_BYTES);
                }
            }
        }
        while let Some(frame) = session.poll_transmit(now) {
            assert_eq!(connection.send_stream(stream).write(&frame), Ok(frame.len()));
        }
    }
}

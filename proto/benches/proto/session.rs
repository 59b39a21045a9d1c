//! Both ends of a session, without I/O between them.

#![allow(clippy::disallowed_methods)] // A first instant has to come from somewhere.

use crate::harness::Work;
use converge_proto::session::{Attach, Secret, Session, SessionId};
use std::{hint::black_box, time::Instant};

pub(crate) const BULK: usize = 1024 * 1024;
const KEYS: usize = 1000;
/// What an SSH server writes at once.
const WRITE_BYTES: usize = 32 * 1024;

struct Pair {
    client: Session,
    agent: Session,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let (mut client, mut agent) = (Session::client(now), Session::agent());
        let (received, limit) = client.offsets();
        let (session, secret) = (SessionId([1; 16]), Secret([2; 16]));
        let attach = Attach { session, secret, attempt: 0, resume: false, received, limit, first: None };
        client.attach(&agent.accept(&attach, now).unwrap(), now).unwrap();
        Self { client, agent, now }
    }

    /// Everything that either end has to say reaches the other one, and is read there. Returns how many bytes the client
    /// has read, and how many the agent.
    fn exchange(&mut self) -> (usize, usize) {
        let (mut by_client, mut by_agent) = (0, 0);
        loop {
            let mut is_quiet = true;
            while let Some(chunk) = self.agent.poll_transmit(self.now) {
                self.client.handle_chunk(chunk, self.now).unwrap();
                by_client += read(&mut self.client);
                is_quiet = false;
            }
            while let Some(chunk) = self.client.poll_transmit(self.now) {
                self.agent.handle_chunk(chunk, self.now).unwrap();
                by_agent += read(&mut self.agent);
                is_quiet = false;
            }
            if is_quiet {
                return (by_client, by_agent);
            }
        }
    }
}

fn read(session: &mut Session) -> usize {
    let mut read = 0;
    while let Some(piece) = session.read() {
        read += black_box(piece).len();
    }
    read
}

pub(crate) fn bulk() -> Work {
    let mut pair = Pair::new();
    let block = vec![7; WRITE_BYTES];
    Box::new(move || {
        let mut arrived = 0;
        for _ in 0..BULK / WRITE_BYTES {
            assert_eq!(pair.agent.write(black_box(&block)), WRITE_BYTES);
            arrived += pair.exchange().0;
        }
        assert_eq!(arrived, BULK);
    })
}

pub(crate) fn keys() -> Work {
    let mut pair = Pair::new();
    Box::new(move || {
        for _ in 0..KEYS {
            assert_eq!(pair.client.write(black_box(b"k")), 1);
            assert_eq!(pair.exchange(), (0, 1));
            assert_eq!(pair.agent.write(black_box(b"k")), 1);
            assert_eq!(pair.exchange(), (1, 0));
        }
    })
}

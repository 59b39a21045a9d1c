//! A hand-written client.

use super::{By, TestRelay, name, soon};
use bytes::Bytes;
use converge_proto::{
    Frame, FrameType, Id,
    rendezvous::{ClientInfo, Connect, Connected, Found, Lookup, Message, Refused, SessionKind, Waiting},
    session::SessionId,
};
use converge_transport::{Link, Role, Stream, StreamError};
use std::time::Duration;

/// A client's link. On QUIC it has many streams, on WebSocket one.
pub struct TestClient {
    pub link: Link,
    pub id: Id,
}

impl TestRelay {
    pub async fn a_client_of(&self, id: &str, by: By) -> TestClient {
        let id: Id = id.parse().unwrap();
        TestClient { link: self.link(by, Role::Client(&id)).await, id }
    }

    /// A session, or why there is none.
    pub async fn connect(&self, id: &str, by: By) -> Result<TestSession, Refused> {
        self.a_client_of(id, by).await.connect().await
    }
}

impl TestClient {
    pub async fn connect(&self) -> Result<TestSession, Refused> {
        self.ask_to_connect(Duration::ZERO).await.session().await
    }

    /// A session that could go on elsewhere, as far as the relay is told.
    pub async fn connect_resumable(&self) -> Result<TestSession, Refused> {
        let connect = Connect {
            kind: SessionKind::Resumable,
            session: Some(SessionId([7; 16])),
            ..self.raw_connect(Duration::ZERO)
        };
        self.say(&connect.to_frame().to_bytes()).await.session().await
    }

    pub async fn ask_to_connect(&self, wait: Duration) -> Asked {
        self.say(&self.raw_connect(wait).to_frame().to_bytes()).await
    }

    /// What a client of a raw session says first.
    pub fn raw_connect(&self, wait: Duration) -> Connect {
        let client = ClientInfo { software: name("test-client"), address: None };
        let wait_ms = u32::try_from(wait.as_millis()).unwrap();
        Connect {
            id: self.id.clone(),
            kind: SessionKind::Raw,
            client,
            wait_ms,
            session: None,
            token: None,
            resume: None,
            fell_back: None,
        }
    }

    pub async fn ask_for_the_key(&self) -> Asked {
        self.say(&Lookup { id: self.id.clone(), wait_ms: 0, token: None }.to_frame().to_bytes()).await
    }

    /// Opens a stream with these bytes.
    pub async fn say(&self, bytes: &[u8]) -> Asked {
        let mut stream = self.link.open_stream().await.unwrap();
        stream.send.write_chunk(Bytes::copy_from_slice(bytes)).await.unwrap();
        stream.send.flush().await.unwrap();
        Asked { link: self.link.clone(), stream }
    }
}

/// A stream on which the relay has been asked something.
pub struct Asked {
    pub link: Link,
    pub stream: Stream,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Connected(Connected),
    Found(Found),
    Waiting(Waiting),
    Refused(Refused),
}

impl Asked {
    pub async fn answer(&mut self) -> Answer {
        let frame = soon("an answer", self.stream.recv.read_frame()).await.unwrap().unwrap();
        match frame.frame_type {
            FrameType::CONNECTED => Answer::Connected(read(&frame)),
            FrameType::FOUND => Answer::Found(read(&frame)),
            FrameType::WAITING => Answer::Waiting(read(&frame)),
            FrameType::REFUSED => Answer::Refused(read(&frame)),
            other => panic!("{other}"),
        }
    }

    /// The session that was asked for, or why there is none.
    async fn session(mut self) -> Result<TestSession, Refused> {
        match self.answer().await {
            Answer::Connected(connected) => Ok(self.into_session(connected)),
            Answer::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    pub async fn refusal(&mut self) -> Refused {
        match self.answer().await {
            Answer::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    pub fn into_session(self, connected: Connected) -> TestSession {
        TestSession { link: self.link, stream: self.stream, connected }
    }
}

fn read<M: Message>(frame: &Frame) -> M {
    M::from_frame(frame).unwrap()
}

/// A client's end of a session.
pub struct TestSession {
    /// The stream lives as long as its link.
    pub link: Link,
    pub stream: Stream,
    pub connected: Connected,
}

/// Sends all of it and ends the direction.
pub async fn send_all(stream: &mut Stream, bytes: Bytes) {
    soon("the peer's reading", async {
        stream.send.write_chunk(bytes).await.unwrap();
        stream.send.finish().await.unwrap();
    })
    .await;
}

/// Sends without ending the direction.
pub async fn send_some(stream: &mut Stream, bytes: &'static [u8]) {
    stream.send.write_chunk(Bytes::from_static(bytes)).await.unwrap();
    stream.send.flush().await.unwrap();
}

/// Reads to the end.
pub async fn read_all(stream: &mut Stream) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(chunk) = soon("more bytes", stream.recv.read_chunk()).await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Reads exactly this much.
pub async fn read_some(stream: &mut Stream, len: usize) -> Vec<u8> {
    let mut some = vec![0; len];
    soon("bytes", tokio::io::AsyncReadExt::read_exact(&mut stream.recv, &mut some)).await.unwrap();
    some
}

//! Strangers who know a session's name, or have seen how it was joined, while its owner works in it.

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use converge_interop_tests::{
    Carrier, Process, Setup,
    process::{PATIENCE, eventually},
    programs,
    setup::clean,
};
use converge_proto::{
    CarrierChoice, Frame, FrameType, Id, RelayUrl,
    rendezvous::{ClientInfo, Connect, Connected, Message, RefusalCode, Refused, SessionKind},
    session::{Attach, Attached, Secret, SessionId},
};
use converge_transport::{DialOptions, Link, Role, Stream, dial};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

on_both_carriers! {
    stranger_does_not_get_into_a_session_that_somebody_works_in,
    hostile_clients_are_refused_in_words_and_harm_nobody,
}

/// Passes connections on to `relay` for as long as the program lives, and writes down what clients say.
fn eavesdrop(relay: String) -> Result<(SocketAddr, Arc<Mutex<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, heard) = (listener.local_addr()?, Arc::new(Mutex::new(Vec::new())));
    let notes = heard.clone();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let Ok(relay) = TcpStream::connect(&relay) else { return };
            let (Ok(from_relay), Ok(to_client)) = (relay.try_clone(), client.try_clone()) else { return };
            let notes = notes.clone();
            std::thread::spawn(move || pass_on(client, relay, Some(&notes)));
            std::thread::spawn(move || pass_on(from_relay, to_client, None));
        }
    });
    Ok((address, heard))
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, notes: Option<&Mutex<Vec<u8>>>) {
    let mut block = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut block) {
        if let Some(mut notes) = notes.and_then(|notes| notes.lock().ok()) {
            notes.extend_from_slice(&block[..len]);
        }
        if to.write_all(&block[..len]).is_err() {
            break;
        }
    }
    // The other side may have gone first.
    let _ = to.shutdown(Shutdown::Write);
}

/// The `Attach` in what a client has said on its WebSocket, once it is there.
fn attach_in(said: &[u8]) -> Option<Attach> {
    let header = said.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let mut messages = &said[header..];
    let mut stream = BytesMut::new();
    // RFC 6455, section 5.2: two bytes, a longer length, a mask, the masked payload.
    while messages.len() >= 2 {
        messages.advance(1);
        let len = match messages.get_u8() & 0x7f {
            126 => messages.try_get_u16().ok()?.into(),
            127 => usize::try_from(messages.try_get_u64().ok()?).ok()?,
            short => short.into(),
        };
        let mask = messages.try_get_u32().ok()?.to_be_bytes();
        let payload = messages.get(..len)?;
        stream.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        messages.advance(len);
        while let Ok(Some(frame)) = Frame::decode(&mut stream) {
            if frame.frame_type == FrameType::ATTACH {
                return Attach::from_frame(&frame).ok();
            }
        }
    }
    None
}

/// A client that says what the test wants said.
struct Stranger {
    relay: RelayUrl,
    id: Id,
}

/// What an agent answers.
#[derive(Debug)]
enum Answer {
    Attached(Link, Box<Stream>),
    Refused(Refused),
}

impl Stranger {
    fn new(setup: &Setup) -> Result<Self> {
        let carriers = match setup.carrier {
            Carrier::Quic => CarrierChoice::Quic,
            Carrier::WebSocket => CarrierChoice::WebSocket,
        };
        let relay = setup.relay.url.parse::<RelayUrl>()?.with_carriers(carriers);
        Ok(Self { relay, id: setup.agent.id.parse()? })
    }

    /// A stream that leads to the agent, which waits for an `Attach`.
    async fn connect(&self) -> Result<(Link, Stream)> {
        let link = dial(&self.relay, &DialOptions::default(), Role::Client(&self.id)).await?;
        let mut stream = link.open_stream().await?;
        let connect = Connect {
            id: self.id.clone(),
            kind: SessionKind::Resumable,
            client: ClientInfo::default(),
            wait_ms: 0,
            session: None,
            token: None,
            resume: None,
            fell_back: None,
        };
        stream.send.write_frame(&connect.to_frame()).await?;
        Connected::from_frame(&next_frame(&mut stream).await?)?;
        Ok((link, stream))
    }

    async fn attach(&self, attach: &Attach) -> Result<Answer> {
        let (link, mut stream) = self.connect().await?;
        stream.send.write_frame(&attach.to_frame()).await?;
        let frame = next_frame(&mut stream).await?;
        if frame.frame_type == FrameType::REFUSED {
            return Ok(Answer::Refused(Refused::from_frame(&frame)?));
        }
        Attached::from_frame(&frame)?;
        Ok(Answer::Attached(link, Box::new(stream)))
    }

    async fn refused(&self, attach: &Attach) -> Result<Refused> {
        match self.attach(attach).await? {
            Answer::Refused(refused) => Ok(refused),
            other @ Answer::Attached(..) => bail!("{attach:?} was let in: {other:?}"),
        }
    }
}

async fn next_frame(stream: &mut Stream) -> Result<Frame> {
    let frame = tokio::time::timeout(PATIENCE, stream.recv.read_frame()).await.context("no answer")??;
    frame.context("the stream ended without an answer")
}

/// Reads until the stream has ended, in peace or not, which the agent must bring about.
async fn end_of(stream: &mut Stream) -> Result<()> {
    let reading = async { while let Ok(Some(_)) = stream.recv.read_chunk().await {} };
    tokio::time::timeout(PATIENCE, reading).await.context("the stream stays open")
}

/// `converge ssh` to `cat`, on a WebSocket in cleartext with a listener in between.
fn owner(setup: &Setup) -> Result<(Process, Attach)> {
    let (address, heard) = eavesdrop(setup.relay.http.trim_start_matches("ws://").to_owned())?;
    let mut ssh = Command::new(programs::own("converge")?);
    let url = format!("ws://{address}/client/{}.{}", setup.agent.id, setup.agent.fingerprint());
    clean(ssh.current_dir(setup.path())).env("TMPDIR", setup.path()).args(["ssh", &url]);
    let mut ssh = Process::start_with_input("owner", ssh.args(setup.ssh_options()).arg("cat"), setup.path())?;
    is_well(&mut ssh)?;
    let attach =
        eventually("the Attach of the session", || attach_in(&heard.lock().expect("no thread panics")))?;
    Ok((ssh, attach))
}

fn is_well(session: &mut Process) -> Result<()> {
    session.write_line("well?")?;
    session.wait_for("an echo", |line| (line == "well?").then_some(()))
}

/// The owner has noticed nothing at all.
fn ends_well(mut session: Process) -> Result<()> {
    is_well(&mut session)?;
    session.end_input();
    assert!(session.wait()?.success());
    assert_eq!(session.log(), "");
    Ok(())
}

fn stranger_does_not_get_into_a_session_that_somebody_works_in(setup: &mut Setup) -> Result<()> {
    let (mut owner, attach) = owner(setup)?;
    let stranger = Stranger::new(setup)?;
    let runtime = tokio::runtime::Runtime::new()?;
    for resume in [true, false] {
        // Knows the name, which is no secret.
        let guess = Attach { secret: Secret([0; 16]), attempt: u32::MAX, resume, ..attach.clone() };
        let refused = runtime.block_on(stranger.refused(&guess))?;
        assert_eq!(refused.code, RefusalCode::BAD_SECRET);
        assert_eq!(refused.text.as_str(), "the secret is not the one of this session");
        is_well(&mut owner)?;
    }
    // Repeats what it has overheard.
    let refused = runtime.block_on(stranger.refused(&attach))?;
    assert_eq!(refused.code, RefusalCode::SUPERSEDED);
    assert_eq!(refused.text.as_str(), "a newer attach of this session came before this one");
    ends_well(owner)
}

fn hostile_clients_are_refused_in_words_and_harm_nobody(setup: &mut Setup) -> Result<()> {
    let (mut owner, _) = owner(setup)?;
    let stranger = Stranger::new(setup)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let attach = |session: u8, attempt, resume| Attach {
        session: SessionId([session; 16]),
        secret: Secret([7; 16]),
        attempt,
        resume,
        received: 0,
        limit: 1 << 20,
        first: None,
    };
    let begin = async |session| match stranger.attach(&attach(session, 5, false)).await? {
        Answer::Attached(link, stream) => anyhow::Ok((link, stream)),
        Answer::Refused(refused) => bail!("{refused:?}"),
    };
    runtime.block_on(async {
        let unknown = stranger.refused(&attach(1, 0, true)).await?;
        assert_eq!(unknown.code, RefusalCode::NO_SUCH_SESSION);

        // Bytes that were never sent. That is said, and the session goes on elsewhere.
        let (_link, mut stream) = begin(2).await?;
        let beyond = Attach { received: 1 << 40, ..attach(2, 6, true) };
        let refused = stranger.refused(&beyond).await?;
        assert_eq!(refused.code, RefusalCode::PROTOCOL_VIOLATION);
        assert!(refused.text.as_str().starts_with("the peer says it has 1099511627776 bytes"), "{refused:?}");
        end_of(&mut stream).await?;
        let delayed = stranger.refused(&attach(2, 4, true)).await?;
        assert_eq!(delayed.code, RefusalCode::SUPERSEDED);
        let again = stranger.attach(&attach(2, 7, true)).await?;
        assert!(matches!(again, Answer::Attached(..)), "{again:?}");
        anyhow::Ok(())
    })?;
    is_well(&mut owner)?;

    // What no peer says within a session ends it: `Attach` for a second time, an unknown frame, noise.
    let second_attach = attach(3, 6, true).to_frame().to_bytes();
    let garbage = [second_attach, Bytes::from_static(b"\x3e\x00"), Bytes::from(vec![0x80; 1000])];
    for (session, garbage) in (3..).zip(garbage) {
        runtime.block_on(async {
            let (_link, mut stream) = begin(session).await?;
            stream.send.write_chunk(garbage).await?;
            stream.send.flush().await?;
            end_of(&mut stream).await
        })?;
        is_well(&mut owner)?;
    }
    // Neither does a stream stay that says nothing, or half a frame.
    runtime.block_on(async {
        let (_link, mut silent) = stranger.connect().await?;
        let (_link, mut half) = stranger.connect().await?;
        half.send.write_chunk(Bytes::from_static(b"\x30\x20")).await?;
        half.send.flush().await?;
        end_of(&mut silent).await?;
        end_of(&mut half).await
    })?;
    ends_well(owner)
}

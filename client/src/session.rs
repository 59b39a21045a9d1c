//! Joining a session with an agent, and asking for its host key.

use crate::{error::ClientError, target::Target};
use converge_proto::{
    Frame, FrameType, HostKey,
    frame::FrameError,
    rendezvous::{
        ClientInfo, Connect, Connected, Found, Lookup, Message, RefusalCode, Refused, SessionKind, Waiting,
        messages::Name,
    },
};
use converge_transport::{CloseCode, Link, LinkError, Role, Stream, StreamError, dial};
use std::time::Duration;

/// The relay says something at least this often, also while the agent is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A session that has been joined: SSH bytes from here on.
#[derive(Debug)]
pub struct Session {
    /// The bytes.
    pub stream: Stream,
    /// The agent's host key, which matches the address.
    pub host_key: HostKey,
    link: Link,
}

impl Session {
    /// Ends the session; what was sent is still delivered.
    pub async fn finish(self) {
        self.stream.close().await;
        self.link.finish(CloseCode::DONE, "").await;
    }
}

/// Joins a session with the agent, waiting for it as long as the target says.
///
/// # Errors
/// [`ClientError`]; a host key that does not match the address's fingerprint is one.
pub async fn connect(target: &Target) -> Result<Session, ClientError> {
    let link = dial_relay(target, Role::Client(&target.address.id)).await?;
    let client =
        ClientInfo { software: Name::new(concat!("converge/", env!("CARGO_PKG_VERSION"))), address: None };
    let connect =
        Connect { id: target.address.id.clone(), kind: SessionKind::Raw, client, wait_ms: wait_ms(target) };
    let (stream, frame) = ask(target, &link, &connect).await?;
    let connected = Connected::from_frame(&frame).map_err(StreamError::from)?;
    check_host_key(target, &connected.host_key)?;
    tracing::debug!(carrier = %link.carrier(), agent = %connected.agent.software, "connected");
    Ok(Session { stream, host_key: connected.host_key, link })
}

/// The agent's host key, which matches the address.
///
/// # Errors
/// As [`connect`].
pub async fn look_up_host_key(target: &Target) -> Result<HostKey, ClientError> {
    let link = dial_relay(target, Role::Client(&target.address.id)).await?;
    let lookup = Lookup { id: target.address.id.clone(), wait_ms: wait_ms(target) };
    let (_, frame) = ask(target, &link, &lookup).await?;
    let found = Found::from_frame(&frame).map_err(StreamError::from)?;
    check_host_key(target, &found.host_key)?;
    link.finish(CloseCode::DONE, "").await;
    Ok(found.host_key)
}

/// Joins a session as a foreign tool would: bytes only, over WebSocket.
///
/// # Errors
/// [`ClientError`].
pub async fn connect_raw(target: &Target) -> Result<(Stream, Link), ClientError> {
    let link = dial_relay(target, Role::RawClient(&target.address.id)).await?;
    let stream = link.open_stream().await.map_err(StreamError::from)?;
    Ok((stream, link))
}

async fn dial_relay(target: &Target, role: Role<'_>) -> Result<Link, ClientError> {
    if target.options.insecure {
        target.say("--insecure: the relay's certificate is not verified");
    }
    dial(&target.relay, target.options, role).await.map_err(|error| ClientError::Dial { error })
}

fn wait_ms(target: &Target) -> u32 {
    u32::try_from(target.wait.as_millis()).unwrap_or(u32::MAX)
}

/// Sends the first frame of a stream and waits for an answer that is not `Waiting`.
async fn ask(target: &Target, link: &Link, question: &impl Message) -> Result<(Stream, Frame), ClientError> {
    let mut stream = link.open_stream().await.map_err(StreamError::from)?;
    stream.send.write_frame(&question.to_frame()).await?;
    let mut told_of_wait = false;
    loop {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, stream.recv.read_frame()).await;
        let frame = answer.map_err(|_| StreamError::from(LinkError::Silent))??;
        let Some(frame) = frame else {
            return Err(
                StreamError::from(LinkError::Broken("the relay ended without an answer".to_owned())).into()
            );
        };
        match frame.frame_type {
            FrameType::WAITING => {
                let waiting = Waiting::from_frame(&frame).map_err(StreamError::from)?;
                if !told_of_wait {
                    told_of_wait = true;
                    let left = humantime::format_duration(Duration::from_secs(
                        u64::from(waiting.left_ms).div_ceil(1000),
                    ));
                    target.say(&format!(
                        "no agent has the ID {} yet; waiting for up to {left}",
                        target.address.id
                    ));
                }
            }
            FrameType::REFUSED => {
                let Refused { code, text } = Refused::from_frame(&frame).map_err(StreamError::from)?;
                return Err(match code {
                    RefusalCode::NO_SUCH_ID => ClientError::NoSuchId { text: text.to_string() },
                    code => ClientError::Refused { code, text: text.to_string() },
                });
            }
            FrameType::CONNECTED | FrameType::FOUND => return Ok((stream, frame)),
            frame_type => {
                let error = FrameError::Unexpected { frame_type, expected: "an answer" };
                return Err(StreamError::from(error).into());
            }
        }
    }
}

fn check_host_key(target: &Target, host_key: &HostKey) -> Result<(), ClientError> {
    let seen = host_key.fingerprint();
    match &target.address.fingerprint {
        Some(expected) if *expected == seen => Ok(()),
        Some(expected) => Err(ClientError::HostKeyMismatch { expected: expected.clone(), seen }),
        None => {
            target.say(&format!(
                "the address has no fingerprint, so the relay vouches for the host key; to rely on nobody use {}.{seen}",
                target.address.id
            ));
            Ok(())
        }
    }
}

//! An agent's control stream, from the registration to the end of the link.

use super::{Admitted, requests::Requests};
use crate::{
    directory::AgentStay,
    first_frame, limits,
    registry::{Agent, Registration},
    shared::Shared,
};
use converge_proto::{
    Frame, FrameType, Keepalive,
    frame::FrameError,
    keepalive::KeepaliveAction,
    rendezvous::{
        Bye, ExpiryWarning, Goaway, Limits, Message, Ping, Pong, Registered, Response, Status, messages::Line,
    },
};
use converge_transport::{Carrier, CloseCode, Link, Stream, StreamError};
use std::time::{Duration, Instant};
use tracing::info;

/// How a registered link ended, for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkEnd {
    #[error("the agent said goodbye: {0}")]
    Goodbye(Line),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the agent went silent")]
    Silent,
    #[error("the agent does not read its control stream")]
    NotReading,
    #[error("the control stream ended")]
    ControlEnded,
    #[error("the relay stopped")]
    Stopped,
}

/// The control stream, until the link ends.
pub(crate) async fn run(shared: &Shared, link: &Link, admitted: &mut Admitted) -> LinkEnd {
    let Admitted { agent, control, registration, presence, .. } = admitted;
    let keepalive = match link.carrier() {
        Carrier::Quic => limits::KEEPALIVE_QUIC,
        Carrier::WebSocket => limits::KEEPALIVE_WEBSOCKET,
    };
    shared.metrics.registered(link.carrier(), presence.has_moved(), agent.verified.fell_back);
    let registered = registered(shared, registration, keepalive);
    let told = Box::pin(async { write(control, &registered).await }).await;
    let end = match told {
        Ok(()) => control_loop(shared, agent, control, keepalive, presence).await,
        Err(end) => end,
    };
    presence.because(end.to_string());
    end
}

fn registered(shared: &Shared, registration: &Registration, keepalive: Duration) -> Frame {
    let registered = Registered {
        id: registration.id.clone(),
        reassigned: registration.reassigned,
        keepalive_ms: u32::try_from(keepalive.as_millis()).unwrap_or(u32::MAX),
        limits: Limits { sessions: shared.gate.sessions_per_agent() },
        public_url: shared.public_url.as_ref().map(|url| Line::new(url.to_string())),
    };
    registered.to_frame()
}

/// The link has ended, or is to end now; the agent's ID is released.
pub(crate) async fn end(link: &Link, admitted: Admitted, why: LinkEnd) {
    let Admitted { agent, registration, presence, .. } = admitted;
    drop(presence);
    let id = registration.id.clone();
    let (code, reason) = match &why {
        LinkEnd::Goodbye(_) => (CloseCode::DONE, String::new()),
        LinkEnd::Stopped => (CloseCode::STOPPING, String::new()),
        LinkEnd::Silent | LinkEnd::NotReading => (CloseCode::SILENT, String::new()),
        LinkEnd::Stream(StreamError::Frame(error)) => (CloseCode::PROTOCOL_VIOLATION, error.to_string()),
        LinkEnd::Stream(_) | LinkEnd::ControlEnded => (CloseCode::PROTOCOL_VIOLATION, why.to_string()),
    };
    match &why {
        LinkEnd::Goodbye(_) => registration.give_up(),
        _ => drop(registration),
    }
    if matches!(why, LinkEnd::Stopped) {
        // Its sessions are being cut at this moment.
        link.settle().await;
    }
    link.clone().finish(code, &reason).await;
    info!(%id, link = agent.number.0, reason = %why, "agent gone");
}

/// How far a link is that is to end.
#[derive(Clone, Copy)]
enum Leaving {
    No,
    /// The agent is told then.
    At(Instant),
    Told,
}

async fn control_loop(
    shared: &Shared,
    agent: &Agent,
    control: &mut Stream,
    interval: Duration,
    stay: &mut AgentStay,
) -> LinkEnd {
    // The agent asks; the relay only notices when it no longer does, so its own patience is longer.
    let mut keepalive = Keepalive::new(interval * 3 / 2, Instant::now());
    let mut leaving = Leaving::No;
    let mut requests = Requests::default();
    loop {
        // What is done now and then is boxed, so that what waits is small.
        let step = tokio::select! {
            biased; // An ending relay does not listen any more; a link that is closed has the truest reason.
            () = shared.ending.cancelled() => return LinkEnd::Stopped,
            error = agent.link.closed() => return LinkEnd::Stream(error.into()),
            () = shared.draining.cancelled(), if matches!(leaving, Leaving::No) => {
                match shared.time_to_leave() {
                    None => Box::pin(send_away(shared, agent, control, &mut leaving)).await,
                    Some(time) => {
                        leaving = Leaving::At(time);
                        Ok(())
                    }
                }
            }
            frame = control.recv.read_frame() => {
                keepalive.handle_received(Instant::now());
                Box::pin(handle_frame(control, frame, stay, &mut requests)).await
            }
            (action, answer) = stay.asked(), if requests.is_free() => {
                let request = requests.begin(action, answer).to_frame();
                Box::pin(write(control, &request)).await
            }
            () = requests.given_up() => Ok(()),
            () = tokio::time::sleep_until(wake_up(&keepalive, leaving).into()) => match leaving {
                Leaving::At(time) if time <= Instant::now() => {
                    Box::pin(send_away(shared, agent, control, &mut leaving)).await
                }
                _ => match keepalive.handle_timeout(Instant::now()) {
                    KeepaliveAction::SendPing(token) => {
                        let ping = Ping { token }.to_frame();
                        Box::pin(write(control, &ping)).await
                    }
                    KeepaliveAction::Wait => Ok(()),
                    KeepaliveAction::Lost => Err(LinkEnd::Silent),
                },
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

fn wake_up(keepalive: &Keepalive, leaving: Leaving) -> Instant {
    match leaving {
        Leaving::At(time) => time.min(keepalive.poll_timeout()),
        Leaving::No | Leaving::Told => keepalive.poll_timeout(),
    }
}

async fn send_away(
    shared: &Shared,
    agent: &Agent,
    control: &mut Stream,
    leaving: &mut Leaving,
) -> Result<(), LinkEnd> {
    *leaving = Leaving::Told;
    agent.leaving.cancel();
    let try_first = shared.cluster.as_ref().and_then(|cluster| cluster.any_url(&mut rand::rng()));
    let reason = Line::new("the relay is stopping");
    let goaway = Goaway { reason, retry_after_ms: 0, try_first: try_first.map(Line::new) };
    write(control, &goaway.to_frame()).await
}

async fn handle_frame(
    control: &mut Stream,
    frame: Result<Option<Frame>, StreamError>,
    stay: &AgentStay,
    requests: &mut Requests,
) -> Result<(), LinkEnd> {
    let frame = frame?.ok_or(LinkEnd::ControlEnded)?;
    match frame.frame_type {
        FrameType::PING => {
            let ping = Ping::from_frame(&frame).map_err(StreamError::from)?;
            write(control, &Pong { token: ping.token }.to_frame()).await
        }
        FrameType::PONG => Ok(()),
        FrameType::STATUS => {
            stay.tell_status(&Status::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::EXPIRY_WARNING => {
            stay.tell_warning(&ExpiryWarning::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::RESPONSE => {
            requests.answer(Response::from_frame(&frame).map_err(StreamError::from)?);
            Ok(())
        }
        FrameType::BYE => Err(LinkEnd::Goodbye(Bye::from_frame(&frame).map_err(StreamError::from)?.reason)),
        _ => {
            let error: FrameError = first_frame::unexpected(&frame, "Ping, Pong, Status, Response or Bye");
            Err(StreamError::from(error).into())
        }
    }
}

async fn write(control: &mut Stream, frame: &Frame) -> Result<(), LinkEnd> {
    match tokio::time::timeout(limits::CONTROL_WRITE_TIMEOUT, control.send.write_frame(frame)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LinkEnd::NotReading),
    }
}

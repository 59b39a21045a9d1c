//! Sessions with an agent that outlive the network below them, and asking for the agent's host key.

mod keeper;
mod outage;
mod path;
mod question;
mod search;

use crate::{error::ClientError, target::Target};
use converge_proto::{
    HostKey,
    rendezvous::{Found, Lookup, Message, RefusalCode},
};
use converge_transport::{
    CloseCode, Link, Role, SessionCopyError, SessionIo, SessionLink, Stream, StreamError, copy_session,
    read_ahead,
};
use keeper::Keeper;
use outage::Outages;
use path::{Path, Paths, dial_relay};
use search::{Search, is_this_relays_own};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long the last bytes may take, when everything has been read or the session is given up.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// A session that has been joined.
pub struct Session<'a> {
    /// The agent's host key, which matches the address.
    pub host_key: HostKey,
    io: SessionIo,
    link: SessionLink,
    keeper: Keeper<'a>,
    first: Path,
}

/// How a session ended that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent has sent everything it will ever send.
    Done,
    /// Told to stop.
    Stopped,
}

/// Joins a session with the agent, waiting for it as long as the target says. What `input` has meanwhile goes along with the
/// question, as much as may: ssh speaks first, and is answered a round trip earlier. The rest is left for
/// [`Session::copy`].
///
/// # Errors
/// [`ClientError`]; a host key that does not match the address's fingerprint is one.
pub async fn connect<'a>(
    target: &'a Target,
    input: &mut (impl AsyncRead + Unpin),
) -> Result<Session<'a>, ClientError> {
    let (io, link) = SessionLink::client();
    let mut paths = Paths::new(target, link.clone());
    let first = tokio::select! {
        first = paths.first() => first?,
        never = read_ahead(&io, input) => match never {},
    };
    Ok(Session { host_key: first.host_key.clone(), io, link, keeper: Keeper::new(paths), first })
}

impl Session<'_> {
    /// Copies until the agent ends the session, or until `stop`. What happens to the network meanwhile is told to the
    /// person in the name of `whose`, when several share this program.
    ///
    /// # Errors
    /// [`ClientError`]: the session is lost for good, or this machine cannot read or write.
    pub async fn copy(
        self,
        input: &mut (impl AsyncRead + Unpin),
        output: &mut (impl AsyncWrite + Unpin),
        stop: impl Future<Output = ()>,
        whose: Option<&str>,
    ) -> Result<End, ClientError> {
        let Self { io, link, keeper, first, .. } = self;
        let outages = Outages::new();
        let telling = outages.tell(keeper.target(), whose);
        let keeping = keeper.run(first, &outages);
        tokio::pin!(telling, keeping);
        let mut is_kept = true;
        let copied = tokio::select! {
            biased; // An end in order counts more than one by signal, and that more than a loss.
            copied = copy_session(&io, input, output) => copied,
            () = stop => {
                link.reset(RefusalCode::STOPPING, "the client has ended");
                // Whether it hears of it or not: nobody waits here any more.
                let _ = tokio::time::timeout(FINISH_TIMEOUT, keeping).await;
                return Ok(End::Stopped);
            }
            kept = &mut keeping => {
                kept?;
                is_kept = false;
                // Over for both ends, so what is left to be read is here already.
                copy_session(&io, input, output).await
            }
            never = &mut telling => match never {},
        };
        if copied.is_err() {
            link.reset(RefusalCode::STOPPING, "the client cannot go on");
        }
        drop(io);
        if is_kept {
            // The agent may hear that everything has arrived, and the relay that the link has ended: they would find out by
            // themselves, but only after a while.
            let _ = tokio::time::timeout(FINISH_TIMEOUT, keeping).await;
        }
        copied.map(|()| End::Done).map_err(copy_error)
    }
}

fn copy_error(error: SessionCopyError) -> ClientError {
    match error {
        SessionCopyError::Session(error) => ClientError::SessionOver { error },
        SessionCopyError::Input(source) => {
            ClientError::Local { what: "cannot read local input".to_owned(), source }
        }
        SessionCopyError::Output(source) => {
            ClientError::Local { what: "cannot write local output".to_owned(), source }
        }
    }
}

/// The agent's host key, which matches the address.
///
/// # Errors
/// As [`connect`].
pub async fn look_up_host_key(target: &Target) -> Result<HostKey, ClientError> {
    target.say_insecure();
    let mut search = Search::new(&target.relays, target.wait);
    let found = loop {
        let link = dial_relay(target, Role::Client(&target.address.id)).await?;
        match ask_for_host_key(target, &link, &search).await {
            Ok(found) => {
                target.check_host_key(&found.host_key)?;
                link.finish(CloseCode::DONE, "").await;
                break found;
            }
            Err(error) => {
                if let Some(place) = link.place()
                    && is_this_relays_own(&error)
                {
                    target.options.relays.leave(place);
                }
                let Some(pause) = search.goes_on_after(&error) else { return Err(error) };
                tokio::time::sleep(pause).await;
            }
        }
    };
    Ok(found.host_key)
}

async fn ask_for_host_key(target: &Target, link: &Link, search: &Search) -> Result<Found, ClientError> {
    let mut stream = link.open_stream().await.map_err(StreamError::from)?;
    let lookup = Lookup {
        id: target.address.id.clone(),
        wait_ms: question::wait_ms(search.wait()),
        token: target.token.clone(),
    };
    stream.send.write_frame(&lookup.to_frame()).await?;
    let mut waiting = once(|left| {
        if search.is_first_wait() {
            target.say_waiting(search.whole_wait().unwrap_or(left));
        }
    });
    question::answer(&mut stream, &mut waiting).await
}

/// Passes on the first word only: a relay says every few seconds that it still waits.
fn once(mut tell: impl FnMut(Duration)) -> impl FnMut(Duration) {
    let mut told = false;
    move |left| {
        if !std::mem::replace(&mut told, true) {
            tell(left);
        }
    }
}

/// Joins a session as a foreign tool would: bytes only, over WebSocket.
///
/// # Errors
/// [`ClientError`].
pub async fn connect_raw(target: &Target) -> Result<(Stream, Link), ClientError> {
    target.say_insecure();
    let link = dial_relay(target, Role::RawClient(&target.address.id, target.token.as_ref())).await?;
    let stream = link.open_stream().await.map_err(StreamError::from)?;
    Ok((stream, link))
}

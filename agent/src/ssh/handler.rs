//! Answers to the requests of one SSH connection.
//!
//! Runs inside the connection's one task, so nothing here waits for anything but, before the login, the sources of keys
//! and, for a short time, the clock ([`Login`], [`TRICKLE_DELAY`]).

use std::sync::Arc;

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig};
use tracing::{Instrument, debug};

use super::channel::{Request, SFTP, SessionChannel, Surroundings};
use super::channels::{Channels, MAX_CHANNELS};
use super::connection::ConnectionLife;
use super::exit::requested_signal;
use super::flow::{InputOverflow, TRICKLE_DELAY};
use super::forward::{Forwards, Opening};
use super::login::{LoggedIn, Login};
use super::notices::ConnectionNotices;
use super::policy::Forward;
use super::{SessionContext, Shared, SshError};
use crate::events::Event;
use crate::life::Presence;
use crate::platform::pty::PtySize;
use crate::users::authorized_keys::KeyOptions;

/// SSH's reason code for "administratively prohibited"
/// ([RFC 4254 section 5.1](https://www.rfc-editor.org/rfc/rfc4254#section-5.1)).
const ADMINISTRATIVELY_PROHIBITED: u32 = 1;

/// The state of one SSH connection.
pub(super) struct ConnectionHandler {
    shared: Arc<Shared>,
    context: Arc<SessionContext>,
    life: ConnectionLife,
    login: Login,
    /// What the key of the person who logged in allows; refuses everything until then.
    options: Option<KeyOptions>,
    notices: Arc<ConnectionNotices>,
    /// From the login on.
    presence: Option<Presence>,
    channels: Channels,
    forwards: Forwards,
}

impl ConnectionHandler {
    pub(super) fn new(shared: Arc<Shared>, mut context: SessionContext, life: ConnectionLife) -> Self {
        let session = context.id.clone();
        context.environment.push(("CONVERGE_SESSION".to_owned(), session.clone()));
        let to_client = context.notify_client.clone();
        let channels = Channels::new(life.ended.clone());
        let context = Arc::new(context);
        let forwards = Forwards::new(Arc::clone(&shared), Arc::clone(&context), life.clone(), &channels);
        Self {
            login: Login::new(&shared, &life),
            notices: Arc::new(ConnectionNotices::new(shared.life.clone(), session, to_client)),
            shared,
            context,
            life,
            options: None,
            presence: None,
            channels,
            forwards,
        }
    }

    fn welcome(&mut self, login: Option<LoggedIn>) -> Auth {
        let Some(LoggedIn { options, user }) = login else { return Auth::reject() };
        self.shared.activity.touch();
        self.shared.events.emit(Event::Login { session: self.context.id.clone(), user: user.clone() });
        let _ = self.life.user.set(user.clone());
        if self.presence.is_none() {
            self.presence = Some(self.shared.life.join(&self.context.id, user));
            let telling = Arc::clone(&self.notices).tell_client(self.life.ended.clone());
            self.life.tasks.spawn(telling.in_current_span());
        }
        self.options = Some(options);
        self.life.logged_in.cancel();
        Auth::Accept
    }

    fn start(&mut self, id: ChannelId, request: Request, session: &mut Session) -> Result<(), SshError> {
        debug!(channel = id.number(), ?request, "program requested");
        let task = self.channels.session_mut(id).zip(self.options.as_ref()).and_then(|(channel, options)| {
            let surroundings = Surroundings {
                shared: &self.shared,
                context: &self.context,
                key: options,
                agent_socket: self.forwards.agent_socket(),
                notices: &self.notices,
            };
            channel.start(request, session.handle(), &surroundings)
        });
        match task {
            Some(task) => {
                session.channel_success(id)?;
                self.life.tasks.spawn(task.in_current_span());
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }
}

fn reply(granted: bool, id: ChannelId, session: &mut Session) -> Result<(), SshError> {
    if granted {
        session.channel_success(id)?;
    } else {
        session.channel_failure(id)?;
    }
    Ok(())
}

/// Answers a request whose refusal has no room for words: OpenSSH's client shows these with `-v`.
fn granted(result: Result<(), String>, session: &mut Session) -> Result<bool, SshError> {
    let Err(text) = result else { return Ok(true) };
    session.debug(true, &text, "")?;
    Ok(false)
}

async fn refuse(reply: ChannelOpenHandle, reason: &str) {
    debug!(reason, "channel refused");
    reply
        .reject(ChannelOpenFailure::Other { code: ADMINISTRATIVELY_PROHIBITED, reason: reason.to_owned() })
        .await;
}

impl Handler for ConnectionHandler {
    type Error = SshError;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, SshError> {
        let is_wanted = self.login.offered(user, offer).await;
        Ok(if is_wanted { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, SshError> {
        let login = self.login.with_key(user, key).await;
        Ok(self.welcome(login))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, SshError> {
        let login = self.login.with_certificate(user, certificate).await;
        Ok(self.welcome(login))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        let Some(slot) = self.channels.reserve() else {
            refuse(reply, &format!("this connection has {MAX_CHANNELS} channels open, close some first"))
                .await;
            return Ok(());
        };
        let id = channel.id();
        debug!(channel = id.number(), "channel opened");
        // The read half is dropped: its bounded queue would stop the whole connection (see `flow`). What arrives
        // comes through the methods below.
        let (_, output) = channel.split();
        self.channels.add_session(id, |task| SessionChannel::new(output, task, slot));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), SshError> {
        let opening = Opening { channel, reply, connection: session.handle() };
        let forward = Forward::Connect { host, port };
        self.forwards.connect(forward, opening, self.options.as_ref(), &mut self.channels).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), SshError> {
        let opening = Opening { channel, reply, connection: session.handle() };
        let forward = Forward::ConnectSocket(path);
        self.forwards.connect(forward, opening, self.options.as_ref(), &mut self.channels).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        self.forwards.confirmed(id, &mut self.channels);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        host: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, SshError> {
        let listening = self.forwards.listen(host, *port, self.options.as_ref(), &session.handle());
        granted(listening.map(|chosen| *port = chosen), session)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        host: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, SshError> {
        Ok(self.forwards.stop_listening(host, port).await)
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, SshError> {
        let listening = self.forwards.listen_on_socket(path, self.options.as_ref(), &session.handle());
        granted(listening, session)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, SshError> {
        Ok(self.forwards.stop_listening_on_socket(path).await)
    }

    async fn agent_request(&mut self, _id: ChannelId, session: &mut Session) -> Result<bool, SshError> {
        let forwarding = self.forwards.forward_agent(self.options.as_ref(), session.handle());
        granted(forwarding, session)
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        refuse(reply, "this agent does not forward X11").await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), SshError> {
        debug!(channel = id.number(), "channel closed by the client");
        self.channels.close(id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), SshError> {
        self.channels.end_input(id);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), SshError> {
        match self.channels.push_input(id, data) {
            Ok(true) => self.shared.activity.touch(),
            Ok(false) => {}
            Err(InputOverflow) => {
                session.disconnect(Disconnect::ProtocolError, "more data than the window allows", "")?;
                return Err(SshError::WindowIgnored);
            }
        }
        if self.channels.backlog().is_trickle(data.len()) {
            tokio::time::sleep(TRICKLE_DELAY).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _id: ChannelId, _current: u32) -> u32 {
        self.channels.backlog().window()
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), SshError> {
        let granted = self.channels.session_mut(id).is_some_and(|channel| channel.set_variable(name, value));
        if !granted {
            debug!(channel = id.number(), ?name, "environment variable refused");
        }
        reply(granted, id, session)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), SshError> {
        let size = PtySize::new(columns, rows, width_pixels, height_pixels);
        let allowed = self.options.as_ref().is_some_and(|options| options.pty);
        let granted = allowed
            && self.channels.session_mut(id).is_some_and(|channel| channel.open_terminal(term, size, modes));
        debug!(channel = id.number(), ?term, granted, "terminal requested");
        reply(granted, id, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        session: &mut Session,
    ) -> Result<(), SshError> {
        let channel = self.channels.session(id);
        if let Some(channel) = channel {
            channel.resize(PtySize::new(columns, rows, width_pixels, height_pixels));
        }
        reply(channel.is_some(), id, session)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), SshError> {
        let Some(channel) = self.channels.session(id) else { return Ok(()) };
        if let Some(signal) = requested_signal(&signal) {
            channel.signal(signal);
        } else {
            debug!(?signal, "unknown signal requested");
        }
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), SshError> {
        self.start(id, Request::Shell, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), SshError> {
        self.start(id, Request::Command(data.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), SshError> {
        if name == SFTP {
            return self.start(id, Request::Sftp, session);
        }
        debug!(?name, "unknown subsystem requested");
        reply(false, id, session)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), SshError> {
        reply(false, id, session)
    }
}

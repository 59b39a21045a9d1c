//! A client made with the SSH library, for what OpenSSH's client does not do.

use std::borrow::Cow;
use std::sync::Arc;

use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Channel, Preferred, kex};
use tokio::sync::mpsc;

use super::TestServer;

/// Trusts every host key: what it reaches is this process.
pub(crate) struct Handler {
    /// Gets channels that the server opens, unanswered.
    pub(crate) opened: mpsc::UnboundedSender<(Channel<Msg>, ChannelOpenHandle)>,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        // Nobody may be interested any more.
        let _ = self.opened.send((channel, reply));
        Ok(())
    }
}

pub(crate) type Opened = mpsc::UnboundedReceiver<(Channel<Msg>, ChannelOpenHandle)>;

/// Logs in; with `kex` nothing but this key exchange is offered.
pub(crate) async fn log_in(server: &TestServer, kex: Option<kex::Name>) -> (Handle<Handler>, Opened) {
    let mut config = client::Config::default();
    if let Some(kex) = kex {
        config.preferred = Preferred { kex: Cow::Owned(vec![kex]), ..Preferred::default() };
    }
    let (opened, receiver) = mpsc::unbounded_channel();
    let address = ("127.0.0.1", server.port);
    let mut client =
        client::connect(Arc::new(config), address, Handler { opened }).await.expect("a connection");
    let key = load_secret_key(server.files.path("id"), None).expect("the key can be read");
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(client.authenticate_publickey("x", key).await.expect("an answer").success());
    (client, receiver)
}

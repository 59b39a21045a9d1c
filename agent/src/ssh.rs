//! The SSH server inside the agent: shells, commands and file transfer for people who come through a relay.
//!
//! It speaks SSH over any byte stream and knows nothing of relays, links and sockets: [`SshServer::serve`] takes one
//! stream, which is one SSH connection, and returns when that has ended and everything it started is cleaned up.
//! Many connections can be served at once, each with many channels (OpenSSH's `ControlMaster`).
//!
//! - *Who*: any user name, with a public key or a certificate that [`Users`] allows; no passwords.
//! - *What*: `shell`, `exec`, the `sftp` subsystem, terminals, environment variables of
//!   [`ALLOWED_VARIABLES`], signals; forwarding of ports, of Unix sockets and of the authentication agent. What of
//!   this is allowed says [`Policy`], and the options of the key.
//! - *As whom*: as the agent itself, in its working directory, with its environment, in a shell that is not a login
//!   shell.
//!
//! Flow, one file each: `connection` runs one SSH connection and its clean-up; `handler` answers the protocol's
//! requests; `login` decides who gets in, and `slow_down` how long that takes; `channels` holds what all channels have
//! in common; `channel` prepares what a session channel will run; `process`, `terminal` and `file_transfer` run it; `flow`
//! holds what clients send until it is consumed, and says why that is not trivial; `forward` is everything about
//! forwarding, and `policy` what may be done.
//!
//! Programs on a terminal end with the program: what it left in the background does not keep the session open.
//! Programs without one end when they have exited *and* nobody holds their output any more, as with OpenSSH's server.
//! When a channel or a connection ends first, its programs get SIGHUP, whole process groups at a time; programs that
//! ignore it (`nohup`) live on, until the agent itself stops: then they are killed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::{Algorithm, PrivateKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::life::Life;
use crate::life::activity::Activity;
use crate::life::login_text::LoginText;
use crate::life::notice::Notice;
use crate::place::Place;
use crate::users::Users;

mod algorithms;
mod channel;
mod channels;
mod connection;
mod elsewhere;
mod environment;
mod exit;
mod file_transfer;
mod flow;
mod forward;
mod handler;
mod login;
mod notices;
mod output;
pub mod policy;
mod process;
mod screen;
mod shell;
mod slow_down;
mod stream;
mod terminal;

pub use algorithms::{MAX_LOGIN_ATTEMPTS, REKEY_BYTES};
pub use channels::MAX_CHANNELS;
pub use connection::LOGIN_GRACE_TIME;
pub use environment::ALLOWED_VARIABLES;
pub use forward::MAX_LISTENING;
pub use policy::{ForwardPolicy, ForwardRule, Policy};

pub(crate) use shell::find as find_program;
use slow_down::RecentFailures;

/// What an [`SshServer`] needs.
pub struct SshServerConfig {
    /// The agent's host key; Ed25519.
    pub host_key: PrivateKey,
    /// Who may log in; asked at every attempt.
    pub users: Users,
    /// Shells to try before `$SHELL`, bash and sh: paths, or names to look for in `PATH`. Default: none.
    pub shells: Vec<PathBuf>,
    /// The container that programs and sftp run in. Default: none, they run here.
    pub place: Option<Place>,
    /// Where programs start and relative file names of sftp begin; absolute.
    pub working_dir: PathBuf,
    /// The environment programs inherit. Default: the agent's own, as it is when this is made.
    pub environment: Vec<(OsString, OsString)>,
    /// Told of everything users do. Default: one that nobody looks at.
    pub activity: Activity,
    /// Told of logins, commands and forwards. Default: nobody.
    pub events: Events,
    /// Who is there, and what they are told. Default: a life that never ends and in which nothing is said.
    pub life: Life,
    /// What a shell on a terminal begins with. Default: nothing.
    pub login_text: Option<LoginText>,
    /// What users may do. Default: everything.
    pub policy: Policy,
    /// The agent directory. Sockets for `-A` are made below it, and no others below it are forwarded. Default: none, and
    /// then the former are made in the system's directory for temporary files.
    pub agent_dir: Option<PathBuf>,
    /// After how many bytes in one direction new keys are agreed on: 64 KiB to [`REKEY_BYTES`], which is the default.
    pub rekey_bytes: usize,
}

impl SshServerConfig {
    /// A configuration with defaults for everything that has one.
    pub fn new(host_key: PrivateKey, users: impl Into<Users>, working_dir: impl Into<PathBuf>) -> Self {
        Self {
            host_key,
            users: users.into(),
            shells: Vec::new(),
            place: None,
            working_dir: working_dir.into(),
            environment: std::env::vars_os().collect(),
            activity: Activity::new(),
            events: Events::unread(),
            life: Life::endless(),
            login_text: None,
            policy: Policy::default(),
            agent_dir: None,
            rekey_bytes: REKEY_BYTES,
        }
    }
}

/// Why an [`SshServerConfig`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshConfigError {
    /// The host key is of another type than Ed25519.
    #[error("host key is {0}, but must be ssh-ed25519")]
    HostKey(Algorithm),
    /// Commands would run in an unknown place.
    #[error("working directory {} is not an absolute path", .0.display())]
    WorkingDir(PathBuf),
    /// There is no shell to run anything with.
    #[error("no shell found: none of the configured ones, $SHELL, bash, sh exists and is executable")]
    NoShell,
}

/// What is known about one session before its SSH connection begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionContext {
    /// Names the session in logs.
    pub id: String,
    /// Variables for all programs of the session, such as `CONVERGE_ID` and `agentdir`. Default: none.
    pub environment: Vec<(String, String)>,
    /// Both ends as the agent sees them, for `SSH_CONNECTION` and `SSH_CLIENT`. Default: unknown, and then the two
    /// variables are not set: an invented address would only mislead.
    pub addresses: Option<Addresses>,
    /// Tells the person at the client, where the session can carry notices. Default: it cannot.
    pub notify_client: Option<NotifyClient>,
    /// Fires when the agent itself stops, and not just this session: then nothing it started may live on.
    stopping: CancellationToken,
}

impl SessionContext {
    /// A session without particulars.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            environment: Vec::new(),
            addresses: None,
            notify_client: None,
            stopping: CancellationToken::new(),
        }
    }
}

/// Hands a notice to the client of a session. Must not wait.
#[derive(Clone)]
pub struct NotifyClient(pub Arc<dyn Fn(&Notice) + Send + Sync>);

impl std::fmt::Debug for NotifyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NotifyClient")
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The person's end.
    pub client: SocketAddr,
    /// The agent's end.
    pub local: SocketAddr,
}

/// Serves SSH connections; cheap to clone.
#[derive(Clone)]
pub struct SshServer {
    shared: Arc<Shared>,
}

/// What all connections of a server have in common.
struct Shared {
    protocol: Arc<russh::server::Config>,
    users: Users,
    failures: Arc<RecentFailures>,
    shells: Vec<PathBuf>,
    place: Option<Place>,
    working_dir: PathBuf,
    environment: Vec<(OsString, OsString)>,
    activity: Activity,
    events: Events,
    life: Life,
    login_text: Option<LoginText>,
    policy: Policy,
    agent_dir: Option<PathBuf>,
}

impl SshServer {
    /// Checks the configuration; opens nothing.
    pub fn new(config: SshServerConfig) -> Result<Self, SshConfigError> {
        let algorithm = config.host_key.algorithm();
        if algorithm != Algorithm::Ed25519 {
            return Err(SshConfigError::HostKey(algorithm));
        }
        if !config.working_dir.is_absolute() {
            return Err(SshConfigError::WorkingDir(config.working_dir));
        }
        if config.place.is_none()
            && shell::choose(shell::Purpose::Person, &config.shells, &config.environment).is_none()
        {
            return Err(SshConfigError::NoShell);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                protocol: Arc::new(algorithms::config(config.host_key, config.rekey_bytes)),
                users: config.users,
                failures: Arc::default(),
                shells: config.shells,
                place: config.place,
                working_dir: config.working_dir,
                environment: config.environment,
                activity: config.activity,
                events: config.events,
                life: config.life,
                login_text: config.login_text,
                policy: config.policy,
                agent_dir: config.agent_dir,
            }),
        })
    }

    /// Serves one SSH connection until it ends or `cancel` fires.
    ///
    /// When it returns, the programs of the session have been hung up and all its tasks have ended. That a client
    /// goes away, at whatever point, is an ordinary end and not an error. After `cancel` the client is told that the
    /// agent is stopping; that and the clean-up take at most a few seconds.
    ///
    /// Cancel safety: dropping the future ends the session too, but then nobody waits for the clean-up.
    ///
    /// # Errors
    ///
    /// When the client broke a rule of the protocol, or did not log in in time.
    pub async fn serve<S>(
        &self,
        stream: S,
        session: SessionContext,
        cancel: CancellationToken,
    ) -> Result<SessionEnd, SshError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let session = SessionContext { stopping: cancel.clone(), ..session };
        connection::serve(Arc::clone(&self.shared), stream, session, cancel).await
    }
}

/// How an SSH connection ended that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEnd {
    /// Whether somebody had logged in.
    pub logged_in: bool,
}

/// Why an SSH connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The client broke a rule of the protocol, or shares no algorithm with us.
    #[error("ssh protocol: {0}")]
    Protocol(#[from] russh::Error),
    /// Nobody logged in within [`LOGIN_GRACE_TIME`].
    #[error("nobody logged in within {} s", LOGIN_GRACE_TIME.as_secs())]
    LoginTimeout,
    /// The client sent far more than the windows it was given.
    #[error("client ignores its window: more than {} bytes unread in one channel", flow::MAX_QUEUED_BYTES)]
    WindowIgnored,
}

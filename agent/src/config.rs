//! What an agent runs with.

use crate::{
    events::Events, job::ci::CiJob, life::login_text::LoginText, place::Place, relay::token::TokenSource,
    ssh::Policy, users::Users,
};
use converge_proto::{Id, RelayUrls, expiry::ExpiryLimits};
use converge_transport::{ClientCertificate, ProxyChoice};
use ssh_key::PrivateKey;
use std::{ffi::OsString, path::PathBuf};

/// An agent's configuration. Checked before anything is dialed.
#[derive(Debug)]
pub struct Config {
    /// Where the relay is, or several of which any will do.
    pub relays: RelayUrls,
    /// Accept any certificate of the relay.
    pub insecure: bool,
    /// What is shown to a relay that asks who the agent is.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxy WebSockets to the relay go through.
    pub proxy: ProxyChoice,
    /// The ID to ask for; without one the relay makes one up.
    pub id: Option<Id>,
    /// Whether the relay's operator may end the agent, give it more time, and show messages.
    pub hears_operator: bool,
    /// What the relay is shown.
    pub token: TokenSource,
    /// The CI job the agent runs in.
    pub job: CiJob,
    /// The agent directory, for `$agentdir`.
    pub agent_dir: PathBuf,
    /// The SSH host key.
    pub host_key: PrivateKey,
    /// Who may log in.
    pub users: Users,
    /// Shells to try before the default ones.
    pub shells: Vec<PathBuf>,
    /// What users may do.
    pub policy: Policy,
    /// The container that programs run in; without one, here.
    pub place: Option<Place>,
    /// Where sessions start.
    pub working_dir: PathBuf,
    /// What programs of sessions inherit.
    pub environment: Vec<(OsString, OsString)>,
    /// What ends the agent when nobody does.
    pub limits: ExpiryLimits,
    /// What a shell on a terminal begins with.
    pub login_text: LoginText,
    /// Told of what happens.
    pub events: Events,
}

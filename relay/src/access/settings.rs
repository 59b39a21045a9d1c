//! What the operator wants of access.

use super::{
    Scope,
    oidc::TrustedIssuer,
    tokens::{StaticToken, TokensFile},
};
use ipnet::IpNet;
use serde::Deserialize;
use std::{str::FromStr, sync::Arc};

/// What is asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Nothing.
    None,
    /// A token with the right scope.
    Token,
}

/// Neither `none` nor `token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none or token")]
pub struct InvalidAuth;

impl FromStr for Auth {
    type Err = InvalidAuth;

    fn from_str(text: &str) -> Result<Self, InvalidAuth> {
        match text {
            "none" => Ok(Self::None),
            "token" => Ok(Self::Token),
            _ => Err(InvalidAuth),
        }
    }
}

/// Who may use the relay. The default is for tests and for relays that nobody else can reach: everybody may register
/// and connect, and the API wants a token.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// What is asked of agents.
    pub agent_auth: Auth,
    /// What is asked of clients.
    pub client_auth: Auth,
    /// What is asked of users of the API.
    pub api_auth: Auth,
    /// Where agents may come from; empty: from anywhere.
    pub agent_networks: Vec<IpNet>,
    /// Where clients may come from; empty: from anywhere.
    pub client_networks: Vec<IpNet>,
    /// Where users of the API may come from; empty: from anywhere.
    pub api_networks: Vec<IpNet>,
    /// Tokens in the configuration file.
    pub tokens: Vec<StaticToken>,
    /// Tokens in a file of their own.
    pub tokens_file: Option<Arc<TokensFile>>,
    /// CI systems whose tokens are good.
    pub issuers: Vec<Arc<TrustedIssuer>>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            agent_auth: Auth::None,
            client_auth: Auth::None,
            api_auth: Auth::Token,
            agent_networks: Vec::new(),
            client_networks: Vec::new(),
            api_networks: Vec::new(),
            tokens: Vec::new(),
            tokens_file: None,
            issuers: Vec::new(),
        }
    }
}

impl AccessSettings {
    /// What is asked for this. Whether metrics and pages ask at all is their own setting.
    pub fn auth(&self, scope: Scope) -> Auth {
        match scope {
            Scope::Agent => self.agent_auth,
            Scope::Client => self.client_auth,
            Scope::ApiRead | Scope::ApiWrite => self.api_auth,
            Scope::Metrics | Scope::SessionsPage => Auth::Token,
        }
    }

    /// Where those may come from who want this; empty: from anywhere.
    pub fn networks(&self, scope: Scope) -> &[IpNet] {
        match scope {
            Scope::Agent => &self.agent_networks,
            Scope::Client => &self.client_networks,
            Scope::ApiRead | Scope::ApiWrite => &self.api_networks,
            Scope::Metrics | Scope::SessionsPage => &[],
        }
    }
}

//! What the operator says about pages.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// What pages show, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagesSettings {
    /// Who may see the page of sessions.
    pub sessions_page: SessionsPage,
    /// What it does not show.
    pub hidden: BTreeSet<HiddenField>,
    /// Whether it shows the addresses of agents and clients.
    pub shows_addresses: bool,
}

/// Who may see the page of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionsPage {
    /// Everybody who can reach the relay.
    #[default]
    Public,
    /// Whoever has a token with the scope `sessions-page`.
    Token,
    /// Nobody.
    Off,
}

impl FromStr for SessionsPage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "public" => Ok(Self::Public),
            "token" => Ok(Self::Token),
            "off" => Ok(Self::Off),
            _ => Err("expected public, token or off".to_owned()),
        }
    }
}

impl fmt::Display for SessionsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::Off => "off",
        })
    }
}

/// Something that the page of sessions can leave out; its search does not look at it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HiddenField {
    /// What the job says it is, and its link.
    Job,
    /// The host it runs on.
    Host,
    /// The operating system.
    Os,
    /// What the agent's link runs on.
    Carrier,
    /// Its sessions.
    Clients,
    /// How much they have moved.
    Bytes,
    /// When the agent ends, and whether it is held.
    Expires,
    /// What a CI system has signed about the job.
    Claims,
}

impl HiddenField {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Job,
        Self::Host,
        Self::Os,
        Self::Carrier,
        Self::Clients,
        Self::Bytes,
        Self::Expires,
        Self::Claims,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Host => "host",
            Self::Os => "os",
            Self::Carrier => "carrier",
            Self::Clients => "clients",
            Self::Bytes => "bytes",
            Self::Expires => "expires",
            Self::Claims => "claims",
        }
    }
}

impl fmt::Display for HiddenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HiddenField {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        let field = Self::ALL.into_iter().find(|field| field.name() == text);
        field.ok_or_else(|| UnknownField(text.chars().take(40).collect()))
    }
}

/// There is no such field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no field {0:?} to hide; there are {all}", all = HiddenField::ALL.map(HiddenField::name).join(", "))]
pub struct UnknownField(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_name_or_refused() {
        for field in HiddenField::ALL {
            assert_eq!(field.to_string().parse(), Ok(field));
        }
        let error = "hostname".parse::<HiddenField>().unwrap_err().to_string();
        assert!(
            error.ends_with("there are job, host, os, carrier, clients, bytes, expires, claims"),
            "{error}"
        );
    }
}

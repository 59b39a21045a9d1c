//! Why a peer is not let in, in words and numbers.

use super::{IdPattern, Scope, Scopes, oidc::OidcRefusal};
use axum::{
    http::{StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use converge_proto::{
    Id,
    rendezvous::{RefusalCode, Refused, messages::Line},
};
use std::{net::IpAddr, time::Duration};

/// No, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operator lets in certain networks only.
    #[error("this relay does not serve {} from {peer}; ask its operator", who(*scope))]
    Network {
        /// What was wanted.
        scope: Scope,
        /// Where the peer is.
        peer: IpAddr,
    },
    /// A token is wanted, and there is none.
    #[error("this relay wants a token of {}; {}", who(*scope), advice(*scope))]
    NoToken {
        /// What was wanted.
        scope: Scope,
    },
    /// Nobody has made such a token, or it was withdrawn.
    #[error(
        "this relay does not know the token; check that all of it was copied, or ask the operator for another"
    )]
    UnknownToken,
    /// It was good once.
    #[error("the token {name:?} has expired {} ago; ask the operator for another", in_words(*ago))]
    ExpiredToken {
        /// What the operator calls it.
        name: String,
        /// Since when.
        ago: Duration,
    },
    /// It is good for something else.
    #[error("the token {name:?} is for {scopes}, and this needs {wanted}")]
    Scope {
        /// What the operator calls it.
        name: String,
        /// What it is for.
        scopes: Scopes,
        /// What was wanted.
        wanted: Scope,
    },
    /// It is for other IDs.
    #[error("the token is for {pattern}, and not for the ID {id}")]
    Id {
        /// What was wanted.
        id: Id,
        /// What it is for.
        pattern: IdPattern,
    },
    /// A CI system's token does not do.
    #[error(transparent)]
    Oidc(#[from] OidcRefusal),
    /// The relay cannot tell at the moment.
    #[error("the relay cannot check the token now: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// The code in a frame.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::NoToken { .. } | Self::UnknownToken | Self::ExpiredToken { .. } => {
                RefusalCode::UNAUTHORIZED
            }
            Self::Network { .. } | Self::Scope { .. } | Self::Id { .. } => RefusalCode::FORBIDDEN,
            Self::Oidc(refusal) => refusal.code(),
            // Trying again helps.
            Self::Unavailable(_) => RefusalCode::INTERNAL,
        }
    }

    /// The status of an HTTP answer.
    pub fn status(&self) -> StatusCode {
        match self.code() {
            RefusalCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
            RefusalCode::FORBIDDEN => StatusCode::FORBIDDEN,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The frame.
    pub fn refused(&self) -> Refused {
        Refused { code: self.code(), text: Line::new(self.to_string()) }
    }

    /// Every [`label`](Self::label).
    pub const LABELS: [&str; 14] = [
        "network",
        "no_token",
        "unknown_token",
        "expired",
        "scope",
        "id",
        "unavailable",
        "malformed",
        "issuer",
        "signature",
        "audience",
        "not_yet",
        "claim",
        "fork",
    ];

    /// One of a few words, to be counted by.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Network { .. } => "network",
            Self::NoToken { .. } => "no_token",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken { .. } => "expired",
            Self::Scope { .. } => "scope",
            Self::Id { .. } => "id",
            Self::Oidc(refusal) => refusal.label(),
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether this may be somebody who tries tokens.
    pub(super) fn is_a_wrong_token(&self) -> bool {
        !matches!(self, Self::NoToken { .. }) && self.code() == RefusalCode::UNAUTHORIZED
    }
}

/// What an HTTP client is told (RFC 6750 section 3).
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        if self.code() == RefusalCode::UNAUTHORIZED {
            return (self.status(), [(WWW_AUTHENTICATE, "Bearer realm=\"converge\"")], text).into_response();
        }
        (self.status(), text).into_response()
    }
}

fn who(scope: Scope) -> &'static str {
    match scope {
        Scope::Agent => "agents",
        Scope::Client => "clients",
        Scope::ApiRead | Scope::ApiWrite => "users of its API",
        Scope::Metrics => "readers of its metrics",
        Scope::SessionsPage => "viewers of its sessions",
    }
}

fn advice(scope: Scope) -> &'static str {
    match scope {
        Scope::Agent => {
            "set CONVERGE_TOKEN or --token-file to one that its operator gave you, or let the CI system make one \
             (on GitHub `permissions: id-token: write`, on GitLab `id_tokens:` with the name CONVERGE_ID_TOKEN)"
        }
        Scope::Client => "set CONVERGE_TOKEN or --token-file to one that its operator gave you",
        _ => "send one that its operator gave you as `Authorization: Bearer TOKEN`",
    }
}

/// The largest unit only, which is all that matters when something is over.
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (180, "3 minutes"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn whoever_may_come_back_with_something_better_is_told_so_by_the_status() {
        let unavailable = Refusal::Unavailable("x".to_owned());
        assert!(unavailable.code().may_pass() && unavailable.status() == StatusCode::SERVICE_UNAVAILABLE);
        let response = Refusal::UnknownToken.into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        let network = Refusal::Network { scope: Scope::Agent, peer: IpAddr::from([10, 0, 0, 1]) };
        assert_eq!(network.into_response().status(), StatusCode::FORBIDDEN);
        assert!(!Refusal::NoToken { scope: Scope::Agent }.is_a_wrong_token());
        assert!(Refusal::UnknownToken.is_a_wrong_token());
    }
}

//! Why a CI system's token does not do, in words for whoever looks at the job's log.

use crate::access::{Scope, Scopes, refusal::in_words};
use converge_proto::rendezvous::RefusalCode;
use std::time::Duration;

/// No, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcRefusal {
    /// Dots in it, and nothing else of a JWT.
    #[error("the token looks like a CI system's and is none: it cannot be decoded")]
    Malformed,
    /// The operator has not named it.
    #[error("issuer {0} is not trusted here")]
    UnknownIssuer(String),
    /// A shared secret, or no signature at all.
    #[error("the token is signed with {0}, which this relay does not take")]
    Algorithm(String),
    /// The issuer has no such key, as of this moment.
    #[error("the token is signed with a key that {0} does not have")]
    UnknownKey(String),
    /// Somebody else has made or changed it.
    #[error("the token's signature is not that of {0}")]
    Signature(String),
    /// For somebody else.
    #[error(
        "wrong audience: the token is for {}, this relay wants {wanted}; name it with --oidc-audience (in GitLab: with aud)",
        if token.is_empty() { "nobody" } else { token }
    )]
    Audience {
        /// Whom it is for.
        token: String,
        /// What would do.
        wanted: String,
    },
    /// It was good once.
    #[error("the token expired {} ago; a new one is needed for each registration", in_words(*.0))]
    Expired(Duration),
    /// Its issuer's clock is ahead, or ours behind.
    #[error("the token is good only in {}: are the clocks right?", in_words(*.0))]
    NotYet(Duration),
    /// It would be good for ever.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// One of the operator's rules.
    #[error("this relay takes no job whose {name} is {}", value.as_deref().unwrap_or("missing"))]
    Claim {
        /// The claim.
        name: String,
        /// What the token has there.
        value: Option<String>,
    },
    /// Strangers can have caused it.
    #[error("{0}; the operator does not allow these")]
    Fork(String),
    /// The issuer's jobs may do something else.
    #[error("tokens of this issuer are for {scopes}, and this needs {wanted}")]
    Scope {
        /// What they are for.
        scopes: Scopes,
        /// What was wanted.
        wanted: Scope,
    },
}

impl OidcRefusal {
    /// The code in a frame.
    pub(in crate::access) fn code(&self) -> RefusalCode {
        match self {
            Self::Claim { .. } | Self::Fork(_) | Self::Scope { .. } => RefusalCode::FORBIDDEN,
            _ => RefusalCode::UNAUTHORIZED,
        }
    }

    /// One of a few words, to be counted by.
    pub(in crate::access) fn label(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownIssuer(_) => "issuer",
            Self::Algorithm(_) | Self::UnknownKey(_) | Self::Signature(_) => "signature",
            Self::Audience { .. } => "audience",
            Self::Expired(_) | Self::NoExpiry => "expired",
            Self::NotYet(_) => "not_yet",
            Self::Claim { .. } => "claim",
            Self::Fork(_) => "fork",
            Self::Scope { .. } => "scope",
        }
    }

    /// How far the token came: of several entries the one that nearly took it has the most useful refusal.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Malformed | Self::UnknownIssuer(_) | Self::Algorithm(_) => 0,
            Self::UnknownKey(_) | Self::Signature(_) => 1,
            Self::Audience { .. } => 2,
            Self::Expired(_) | Self::NotYet(_) | Self::NoExpiry => 3,
            Self::Claim { .. } => 4,
            Self::Fork(_) => 5,
            Self::Scope { .. } => 6,
        }
    }
}

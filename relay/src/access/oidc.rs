//! Tokens of CI systems: OpenID Connect ID tokens, which are JWTs that the system signs for one job and one audience.
//!
//! The signature is checked first, so nobody learns anything about the operator's rules without a token of an issuer
//! that is trusted here. Times are checked with `LEEWAY`; `none` and the algorithms with shared secrets are never
//! taken. Specifications: RFC 7519 (JWT), RFC 7517 (keys), OpenID Connect Discovery 1.0.

mod entry;
mod fetch;
mod forks;
mod keys;
mod kind;
mod refusal;
mod rules;

pub use entry::{InvalidEntry, OidcEntry, TrustedIssuer};
pub use keys::IssuerKeys;
pub use kind::IssuerKind;
pub use refusal::OidcRefusal;
pub use rules::{ClaimRule, IdTemplate};

use super::{AccessSettings, Claims, Grant, Refusal, Scope};
use converge_proto::rendezvous::Token;
use jsonwebtoken::{Algorithm, Validation};
use keys::Lookup;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How far the clocks of issuer and relay may be apart.
const LEEWAY: Duration = Duration::from_mins(1);
/// Signatures with a key that only the issuer has.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Whether a token is a JWT in its shape: three parts with dots between.
pub(super) fn looks_like_one(token: &Token) -> bool {
    token.secret().bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Verifies a token against every entry of its issuer; the first that lets it in counts, else the refusal of the one
/// that it came furthest with.
///
/// # Errors
/// [`Refusal`].
pub(super) async fn verify(
    settings: &AccessSettings,
    keys: &IssuerKeys,
    token: &Token,
    scope: Scope,
    now: SystemTime,
) -> Result<Grant, Refusal> {
    let token = token.secret();
    let header = jsonwebtoken::decode_header(token).map_err(|_| OidcRefusal::Malformed)?;
    let algorithm = header.alg;
    let issuer: Unverified =
        jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| OidcRefusal::Malformed)?;
    let issuer = issuer.iss;
    let entries: Vec<_> = settings.issuers.iter().filter(|entry| entry.issuer == issuer).cloned().collect();
    if entries.is_empty() {
        return Err(OidcRefusal::UnknownIssuer(clipped(&issuer)).into());
    }
    if !ALGORITHMS.contains(&algorithm) {
        return Err(OidcRefusal::Algorithm(format!("{algorithm:?}")).into());
    }
    let mut verified: HashMap<_, Map<String, Value>> = HashMap::new();
    let mut refusal: Option<OidcRefusal> = None;
    for entry in &entries {
        let claims = if let Some(claims) = verified.get(&entry.keys) {
            claims
        } else {
            let key = match keys.find(&entry.keys, header.kid.as_deref(), algorithm).await {
                Lookup::Found(key) => key,
                Lookup::Unknown => return Err(OidcRefusal::UnknownKey(clipped(&issuer)).into()),
                Lookup::Unavailable(why) => return Err(Refusal::Unavailable(why)),
            };
            let claims = jsonwebtoken::decode(token, &key, &signature_only(algorithm))
                .map_err(|_| OidcRefusal::Signature(clipped(&issuer)))?
                .claims;
            verified.entry(entry.keys.clone()).or_insert(claims)
        };
        match admit(entry, claims, scope, now) {
            Ok(grant) => return Ok(grant),
            Err(other) if refusal.as_ref().is_none_or(|refusal| refusal.rank() < other.rank()) => {
                refusal = Some(other);
            }
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or(OidcRefusal::Malformed).into())
}

/// Read before anything is verified, to know whose keys to ask for.
#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

/// The library checks the signature; what it finds wrong with times and audiences has no values in it, and people need
/// those, so that is checked here.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// What comes after the signature.
fn admit(
    entry: &TrustedIssuer,
    claims: &Map<String, Value>,
    scope: Scope,
    now: SystemTime,
) -> Result<Grant, OidcRefusal> {
    check_audience(entry, claims)?;
    check_times(claims, now)?;
    for rule in &entry.rules {
        rule.check(claims)?;
    }
    if !entry.allow_fork {
        forks::check(entry.kind, claims)?;
    }
    if !entry.scopes.include(scope) {
        return Err(OidcRefusal::Scope { scopes: entry.scopes.clone(), wanted: scope });
    }
    let ids = entry.id.as_ref().map(|template| template.fill(claims)).transpose()?;
    let ruled = entry.rules.iter().map(|rule| rule.name.clone());
    let kept = Claims::new(&entry.issuer, entry.kind, claims, ruled);
    Ok(Grant { token: None, claims: Some(kept), ids })
}

fn check_audience(entry: &TrustedIssuer, claims: &Map<String, Value>) -> Result<(), OidcRefusal> {
    let audiences: Vec<String> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if audiences.iter().any(|audience| entry.audiences.contains(audience)) {
        return Ok(());
    }
    let token = clipped(&audiences.join(", "));
    Err(OidcRefusal::Audience { token, wanted: entry.audiences.join(" or ") })
}

fn check_times(claims: &Map<String, Value>, now: SystemTime) -> Result<(), OidcRefusal> {
    // JSON numbers, with or without a fraction (RFC 7519 section 2, NumericDate).
    let time = |name: &str| {
        let seconds = claims.get(name)?.as_f64()?;
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    };
    let Some(expires) = time("exp") else { return Err(OidcRefusal::NoExpiry) };
    if let Ok(ago) = now.duration_since(expires)
        && ago >= LEEWAY
    {
        return Err(OidcRefusal::Expired(ago));
    }
    for name in ["nbf", "iat"] {
        if let Some(Ok(until)) = time(name).map(|from| from.duration_since(now))
            && until > LEEWAY
        {
            return Err(OidcRefusal::NotYet(until));
        }
    }
    Ok(())
}

/// What a token says, short enough to be said back.
fn clipped(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;

//! Whether an OpenSSH user certificate lets its owner in, and with which rights.
//!
//! The format and its rules are OpenSSH's (`PROTOCOL.certkeys`). Where OpenSSH's server knows something that this agent
//! does not, the certificate is refused and never taken for more than it says: the address of a person behind a relay
//! is the relay's word (`source-address`), and a critical option that is not known here is a condition that somebody
//! has set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::keys::{Algorithm, Certificate, HashAlg};

use crate::users::authorized_keys::KeyOptions;

/// What a certificate's list of principals must contain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Principals<'a> {
    /// One of these.
    OneOf(&'a [String]),
    /// The name that was given to ssh.
    Login(&'a str),
}

/// Why a certificate of a trusted authority is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Made for a server.
    #[error("certificate is one for hosts, not for users")]
    Host,
    /// The authority's signature is of a kind that is not trusted any more.
    #[error("certificate is signed with {0}, which is too weak")]
    WeakSignature(Algorithm),
    /// Not what the authority has signed.
    #[error("certificate has a wrong signature")]
    Signature,
    /// Its time has not come.
    #[error("certificate is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("certificate has expired")]
    Expired,
    /// For everybody, which nobody can have meant here.
    #[error("certificate has no principals")]
    NoPrincipals,
    /// For somebody else.
    #[error("certificate is for {has:?}, and not for {wanted}")]
    OtherPrincipals {
        /// Its principals.
        has: Vec<String>,
        /// Who may log in.
        wanted: String,
    },
    /// A critical option that cannot be honoured.
    #[error("certificate has the critical option {name}: {why}")]
    CriticalOption {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
}

/// What the owner of the certificate may do: only what its extensions *and* the line of its authority allow.
///
/// Whether the owner holds the key is the SSH protocol's part and has been checked before.
pub(super) fn judge(
    certificate: &Certificate,
    principals: Principals<'_>,
    line: &KeyOptions,
    now: SystemTime,
) -> Result<KeyOptions, CertificateProblem> {
    if !certificate.cert_type().is_user() {
        return Err(CertificateProblem::Host);
    }
    let signature = certificate.signature().algorithm();
    if matches!(signature, Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
        return Err(CertificateProblem::WeakSignature(signature));
    }
    check_time(certificate, now)?;
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    // Somewhere inside its period, which was looked at: what is left to fail is the signature.
    certificate
        .validate_at(certificate.valid_after(), [&authority])
        .map_err(|_| CertificateProblem::Signature)?;
    check_principals(certificate.valid_principals(), principals)?;
    with_certificate(line, certificate)
}

/// Valid from its first second on, and not in its last.
fn check_time(certificate: &Certificate, now: SystemTime) -> Result<(), CertificateProblem> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    if now < certificate.valid_after() {
        return Err(CertificateProblem::NotYet);
    }
    if now >= certificate.valid_before() {
        return Err(CertificateProblem::Expired);
    }
    Ok(())
}

fn check_principals(has: &[String], wanted: Principals<'_>) -> Result<(), CertificateProblem> {
    if has.is_empty() {
        return Err(CertificateProblem::NoPrincipals);
    }
    let (matches, wanted) = match wanted {
        Principals::OneOf(names) => (names.iter().any(|name| has.contains(name)), format!("{names:?}")),
        Principals::Login(login) => {
            (has.iter().any(|name| name == login), format!("the name {login:?} that was given to ssh"))
        }
    };
    if matches { Ok(()) } else { Err(CertificateProblem::OtherPrincipals { has: has.to_vec(), wanted }) }
}

fn with_certificate(line: &KeyOptions, certificate: &Certificate) -> Result<KeyOptions, CertificateProblem> {
    let mut options = line.clone();
    for (name, value) in certificate.critical_options().iter() {
        let refuse = |why| CertificateProblem::CriticalOption { name: name.clone(), why };
        match name.as_str() {
            "force-command" => match &options.command {
                Some(command) if command != value => {
                    return Err(refuse("the line of its authority has another command"));
                }
                _ if value.contains('\0') => return Err(refuse("it cannot be handed to a shell")),
                _ => options.command = Some(value.clone()),
            },
            "source-address" => {
                return Err(refuse("the agent cannot know the address of a person behind a relay"));
            }
            _ => return Err(refuse("this agent does not support it, and such an option is never ignored")),
        }
    }
    // Unknown extensions are ignored, as their definition wants it.
    let permits = |name: &str| certificate.extensions().contains_key(name);
    options.pty &= permits("permit-pty");
    options.port_forwarding &= permits("permit-port-forwarding");
    options.agent_forwarding &= permits("permit-agent-forwarding");
    options.x11_forwarding &= permits("permit-X11-forwarding");
    options.user_rc &= permits("permit-user-rc");
    Ok(options)
}

#[cfg(test)]
mod tests;

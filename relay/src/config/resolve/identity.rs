//! The certificate that was chosen, and whose certificates are believed.

use crate::{
    command_line::Tls,
    config::{ClusterConfig, Problem},
    tls::{
        Source,
        acme::{self, AcmeSettings, LETS_ENCRYPT},
        files::CertificateFiles,
    },
};
use converge_certs::{ClientAuthority, Identity, IdentityError, TrustConfig};
use converge_proto::RelayUrl;
use std::{path::Path, sync::Arc};

/// Reads what was chosen, and writes nothing.
pub(super) fn check(tls: &Tls) -> Vec<Problem> {
    let mut problems = Vec::new();
    let directory = state_directory(tls);
    match files(tls) {
        Some(files) => problems.extend(from_files(&files).err()),
        None if directory.exists() && !directory.is_dir() => {
            let what = format_args!("{} is not a directory", directory.display());
            problems.push(Problem::about(&["state_dir"], what));
        }
        None => {}
    }
    problems.extend(authority(tls).err());
    if let Some(file) = &tls.acme_ca_file {
        let roots = TrustConfig::with_roots_of(file);
        problems.extend(roots.err().map(|error| Problem::about(&["acme_ca_file"], error)));
    }
    problems
}

/// Who the relay is at its start, and where its next certificate comes from. Without a certificate of its own, one of
/// several shows what all of them do.
pub(super) fn load(
    tls: &Tls,
    public_url: Option<&RelayUrl>,
    cluster: Option<&ClusterConfig>,
) -> Result<(Identity, Source), Problem> {
    let (identity, source) = match (files(tls), acme(tls)) {
        (Some(files), _) => (from_files(&files)?, Source::Files(files)),
        (None, Some(settings)) => {
            let kept = acme::kept(&settings).map(Identity::new);
            // The first one cannot be ordered before there is something to answer the ACME server with.
            let awaiting = || Identity::awaiting(state_directory(tls), &settings.domains).map_err(unusable);
            let identity = kept.map_or_else(awaiting, Ok)?;
            (identity, Source::Acme(settings))
        }
        (None, None) => {
            let shared = cluster.map(|cluster| cluster.identity.shared().clone());
            (shared.map_or_else(|| self_signed(tls, &names(public_url)), Ok)?, Source::Kept)
        }
    };
    Ok(match authority(tls)? {
        Some(authority) => (identity.with_client_authority(authority), source),
        None => (identity, source),
    })
}

/// The URL to give to people when they were not told another: the first host name that a certificate is ordered for. Where
/// the ACME server looks at port 443, that is a port which leads here.
pub(super) fn url(tls: &Tls, port: u16) -> Option<RelayUrl> {
    let settings = acme(tls)?;
    let domain = settings.domains.first()?;
    let port = match settings.challenge {
        acme::Challenge::TlsAlpn01 => 443,
        acme::Challenge::Http01 => port,
    };
    (port != 0).then(|| format!("https://{domain}:{port}").parse().ok())?
}

/// What is to be ordered, if anything.
pub(super) fn acme(tls: &Tls) -> Option<AcmeSettings> {
    let domains = tls.acme_domain.clone().filter(|domains| !domains.is_empty())?;
    Some(AcmeSettings {
        domains: domains.into_iter().map(|domain| domain.trim().to_ascii_lowercase()).collect(),
        email: tls.acme_email.clone(),
        directory: tls.acme_directory.clone().unwrap_or_else(|| LETS_ENCRYPT.to_owned()),
        ca_file: tls.acme_ca_file.clone(),
        challenge: tls.acme_challenge.unwrap_or_default(),
        state_dir: state_directory(tls).to_owned(),
    })
}

pub(super) fn state_directory(tls: &Tls) -> &Path {
    tls.state_dir.as_deref().unwrap_or(Path::new(Tls::DEFAULT_STATE_DIR))
}

fn files(tls: &Tls) -> Option<CertificateFiles> {
    let (certificate, key) = tls.cert.clone().zip(tls.key.clone())?;
    Some(CertificateFiles { certificate, key })
}

fn from_files(files: &CertificateFiles) -> Result<Identity, Problem> {
    Identity::from_files(&files.certificate, &files.key)
        .map_err(|error| Problem::about(&["cert", "key"], error))
}

fn self_signed(tls: &Tls, names: &[String]) -> Result<Identity, Problem> {
    Identity::self_signed(state_directory(tls), names).map_err(unusable)
}

fn unusable(error: IdentityError) -> Problem {
    Problem::about(&["state_dir", "cert"], error)
}

fn authority(tls: &Tls) -> Result<Option<Arc<ClientAuthority>>, Problem> {
    let Some(file) = &tls.agent_ca else { return Ok(None) };
    let authority = ClientAuthority::from_file(file);
    authority.map(|authority| Some(Arc::new(authority))).map_err(|error| Problem::about(&["agent_ca"], error))
}

/// Names for a self-signed certificate. Peers go by its pin; the names are for people who look at it.
fn names(public_url: Option<&RelayUrl>) -> Vec<String> {
    public_url.map(RelayUrl::host).into_iter().chain(["localhost".to_owned()]).collect()
}

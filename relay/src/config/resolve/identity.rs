//! The certificate and key that were chosen.

use crate::{command_line::Tls, config::Problem};
use converge_certs::Identity;
use converge_proto::RelayUrl;
use std::path::Path;

/// Reads what was chosen, and writes nothing.
pub(super) fn check(tls: &Tls) -> Result<(), Problem> {
    let directory = state_directory(tls);
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => from_files(cert, key).map(drop),
        (None, None) if directory.exists() && !directory.is_dir() => {
            let what = format_args!("{} is not a directory", directory.display());
            Err(Problem::about(&["state_dir"], what))
        }
        _ => Ok(()),
    }
}

/// From files, or self-signed and kept in the state directory.
pub(super) fn load(tls: &Tls, public_url: Option<&RelayUrl>) -> Result<Identity, Problem> {
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => from_files(cert, key),
        _ => Identity::self_signed(state_directory(tls), &names(public_url))
            .map_err(|error| Problem::about(&["state_dir", "cert"], error)),
    }
}

fn from_files(cert: &Path, key: &Path) -> Result<Identity, Problem> {
    Identity::from_files(cert, key).map_err(|error| Problem::about(&["cert", "key"], error))
}

fn state_directory(tls: &Tls) -> &Path {
    tls.state_dir.as_deref().unwrap_or(Path::new("converge-relay-state"))
}

/// Names for a new self-signed certificate. Peers go by its pin; the names are for people who look at it.
fn names(public_url: Option<&RelayUrl>) -> Vec<String> {
    public_url.map(RelayUrl::host).into_iter().chain(["localhost".to_owned()]).collect()
}

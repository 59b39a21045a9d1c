//! `converge host-key`: the agent's host key as `known_hosts` lines, for ssh's `KnownHostsCommand`.

use crate::{error::ClientError, handoff::Handoff, session, target::Target};
use std::io::Write;

/// Prints the lines. `asked` is the name that ssh is looking for.
///
/// # Errors
/// [`ClientError`].
pub async fn run(target: &Target, asked: &str, handoff: Option<&Handoff>) -> Result<(), ClientError> {
    let key = match handoff.and_then(Handoff::host_key) {
        Some(key) => key,
        None => session::look_up_host_key(target).await?.to_openssh(),
    };
    let mut names = vec![target.host_name()];
    if !asked.contains("://") && !names.iter().any(|name| name == asked) {
        names.push(asked.to_owned());
    }
    let line = format!("{} {key}\n", names.join(","));
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ClientError::local("cannot write the host key"))
}

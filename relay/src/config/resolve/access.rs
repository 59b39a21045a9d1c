//! Who may use the relay: everything that is said about it, and whether enough is.

use crate::{
    access::{AccessSettings, Auth, oidc::TrustedIssuer, tokens::TokensFile},
    command_line::{Access, Listen, Settings},
    config::{Loaded, Problem},
};
use std::sync::Arc;

/// Makes settings of what was said. Reads the file of tokens.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn settings(settings: &Settings) -> Result<AccessSettings, Vec<Problem>> {
    let Access { agent_auth, client_auth, api_auth, .. } = &settings.access;
    let Access { agent_network, client_network, api_network, tokens_file, tokens, oidc, .. } =
        &settings.access;
    let mut problems = Vec::new();
    let tokens_file = tokens_file.as_deref().and_then(|path| match TokensFile::open(path) {
        Ok(file) => Some(Arc::new(file)),
        Err(error) => {
            problems.push(Problem::about(&["tokens_file"], error));
            None
        }
    });
    // What agents ask for: the relay as they know it.
    let Listen { listen, public_url, .. } = &settings.listen;
    let port = listen.map(|address| address.port());
    let public_url = public_url.clone().or_else(|| super::identity::url(&settings.tls, port?));
    let public =
        public_url.map(|url| url.with_scheme(url.http_scheme(), "").trim_end_matches('/').to_owned());
    let mut issuers = Vec::new();
    for (number, entry) in (1..).zip(oidc.iter().flatten()) {
        match TrustedIssuer::new(entry.clone(), public.as_deref()) {
            Ok(issuer) => issuers.push(Arc::new(issuer)),
            Err(error) => {
                problems.push(Problem::new(format_args!(
                    "entry {number} of [[access.oidc]] in the file: {error}"
                )));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let default = AccessSettings::default();
    Ok(AccessSettings {
        agent_auth: agent_auth.unwrap_or(default.agent_auth),
        client_auth: client_auth.unwrap_or(default.client_auth),
        api_auth: api_auth.unwrap_or(default.api_auth),
        agent_networks: agent_network.clone().unwrap_or_default(),
        client_networks: client_network.clone().unwrap_or_default(),
        api_networks: api_network.clone().unwrap_or_default(),
        tokens: tokens.clone().unwrap_or_default(),
        tokens_file,
        issuers,
    })
}

/// A relay that others can reach is not open by mistake.
pub(super) fn is_chosen(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let Listen { listen, http, .. } = &loaded.settings.listen;
    let is_private = [listen, http].into_iter().flatten().all(|address| address.ip().is_loopback());
    if is_private && listen.is_some() {
        return;
    }
    let Access { agent_auth, client_auth, .. } = &loaded.settings.access;
    let unsaid: Vec<_> = [("agent_auth", agent_auth), ("client_auth", client_auth)]
        .into_iter()
        .filter(|(_, auth)| auth.is_none())
        .map(|(field, _)| field)
        .collect();
    if !unsaid.is_empty() {
        let what = "others can reach this relay, so say who may use it: token for those who have one, or none for everybody";
        problems.push(Problem::about(&unsaid, what));
    }
}

/// What asks for tokens must have some.
pub(super) fn can_be_met(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let Access { agent_auth, client_auth, tokens_file, tokens, oidc, .. } = &loaded.settings.access;
    let has_some = tokens_file.is_some()
        || tokens.as_ref().is_some_and(|tokens| !tokens.is_empty())
        || oidc.as_ref().is_some_and(|oidc| !oidc.is_empty());
    let wanting: Vec<_> = [("agent_auth", agent_auth), ("client_auth", client_auth)]
        .into_iter()
        .filter(|(_, auth)| **auth == Some(Auth::Token))
        .map(|(field, _)| field)
        .collect();
    if !has_some && !wanting.is_empty() {
        let what = "tokens are wanted and there are none: name a file with --tokens-file, or put [[access.tokens]] or \
                    [[access.oidc]] into the configuration file";
        problems.push(Problem::about(&wanting, what));
    }
}

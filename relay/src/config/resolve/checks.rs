//! Checks of settings against each other. None of them opens or reads anything.

use super::{access, cluster, identity, watching};
use crate::{
    config::{Loaded, Problem},
    limits::ProxyProtocol,
    tls::acme::{Challenge, InvalidAcmeSettings},
};

/// One question about the whole; it adds what it finds wrong.
type Check = fn(&Loaded, &mut Vec<Problem>);

/// Every check there is. An area adds its own here.
const CHECKS: &[Check] = &[
    addresses_differ,
    certificate_has_key,
    certificate_is_ordered_or_given,
    access::is_chosen,
    access::can_be_met,
    limits_make_sense,
    cluster::makes_sense,
    watching::makes_sense,
];

/// Everything that is wrong.
pub(super) fn all(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    for check in CHECKS {
        check(loaded, &mut problems);
    }
    problems
}

fn addresses_differ(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let listen = &loaded.settings.listen;
    if listen.http.is_some_and(|http| http.port() != 0 && listen.listen == Some(http)) {
        let what = "the cleartext listener needs an address of its own";
        problems.push(Problem::about(&["http", "listen"], what));
    }
}

fn limits_make_sense(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let limits = &loaded.settings.limits;
    let least = 16 * 1024;
    for (key, rate) in [
        ("session_bytes_per_second", limits.session_bytes_per_second),
        ("agent_bytes_per_second", limits.agent_bytes_per_second),
    ] {
        if rate.is_some_and(|rate| rate > 0 && rate < least) {
            problems.push(Problem::about(
                &[key],
                "a session needs at least 16384 bytes per second; 0 is no limit",
            ));
        }
    }
    if limits.max_streams_per_link == Some(0) {
        problems.push(Problem::about(
            &["max_streams_per_link"],
            "a link without streams is of no use; say at least 1",
        ));
    }
    let trusts_nobody = limits.trusted_proxy.as_ref().is_none_or(Vec::is_empty);
    if trusts_nobody && limits.proxy_protocol.is_some_and(|mode| mode != ProxyProtocol::Off) {
        let what = "a PROXY protocol header is read of trusted proxies only; say which";
        problems.push(Problem::about(&["trusted_proxy", "proxy_protocol"], what));
    }
}

fn certificate_has_key(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let tls = &loaded.settings.tls;
    match (&tls.cert, &tls.key) {
        (Some(_), None) => problems.push(Problem::about(&["key"], "the certificate needs its private key")),
        (None, Some(_)) => problems.push(Problem::about(&["cert"], "the private key needs its certificate")),
        _ => {}
    }
}

fn certificate_is_ordered_or_given(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let settings = &loaded.settings;
    let Some(acme) = identity::acme(&settings.tls) else {
        if settings.tls.acme_email.is_some() || settings.tls.acme_ca_file.is_some() {
            let what = "nothing is ordered from an ACME server without a host name";
            problems.push(Problem::about(&["acme_domain"], what));
        }
        return;
    };
    if settings.tls.cert.is_some() {
        let what = "a certificate is either given or ordered";
        problems.push(Problem::about(&["cert", "acme_domain"], what));
    }
    if acme.challenge == Challenge::Http01 && settings.listen.http.is_none() {
        let what = "http-01 needs a cleartext listener that port 80 leads to";
        problems.push(Problem::about(&["acme_challenge", "http"], what));
    }
    if let Err(error) = acme.check() {
        let field = match error {
            InvalidAcmeSettings::Directory(_) => "acme_directory",
            InvalidAcmeSettings::Email(_) => "acme_email",
            InvalidAcmeSettings::Challenge(_) => "acme_challenge",
            InvalidAcmeSettings::Domain(_)
            | InvalidAcmeSettings::Wildcard(_)
            | InvalidAcmeSettings::TooMany(_) => "acme_domain",
        };
        problems.push(Problem::about(&[field], error));
    }
}

//! Checks of settings against each other. None of them opens or reads anything.

use crate::config::{Loaded, Problem};

/// One question about the whole; it adds what it finds wrong.
type Check = fn(&Loaded, &mut Vec<Problem>);

/// Every check there is. An area adds its own here.
const CHECKS: &[Check] = &[addresses_differ, certificate_has_key];

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

fn certificate_has_key(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let tls = &loaded.settings.tls;
    match (&tls.cert, &tls.key) {
        (Some(_), None) => problems.push(Problem::about(&["key"], "the certificate needs its private key")),
        (None, Some(_)) => problems.push(Problem::about(&["cert"], "the private key needs its certificate")),
        _ => {}
    }
}

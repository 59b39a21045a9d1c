use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// Of key 1 by authority 2, valid in the seconds 1000 to 1999, for `kim` and `lee`, with what `change` adds.
fn certificate(change: impl FnOnce(&mut Builder)) -> Certificate {
    signed(CertType::User, change)
}

fn signed(kind: CertType, change: impl FnOnce(&mut Builder)) -> Certificate {
    let mut builder = Builder::new(vec![7; 32], key(1).public_key(), 1000, 2000).unwrap();
    builder.cert_type(kind).unwrap();
    builder.key_id("kim@laptop").unwrap().serial(7).unwrap();
    builder.valid_principal("kim").unwrap().valid_principal("lee").unwrap();
    change(&mut builder);
    builder.sign(&key(2)).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn judged(certificate: &Certificate, line: &KeyOptions) -> Result<KeyOptions, CertificateProblem> {
    judge(certificate, Principals::Login("kim"), line, at(1500))
}

#[test]
fn rights_are_those_of_the_extensions() {
    let none = judged(&certificate(|_| {}), &KeyOptions::default()).unwrap();
    let nothing = KeyOptions {
        pty: false,
        port_forwarding: false,
        agent_forwarding: false,
        x11_forwarding: false,
        user_rc: false,
        ..KeyOptions::default()
    };
    assert_eq!(none, nothing);
    let all = certificate(|builder| {
        for name in
            ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-user-rc", "unknown"]
        {
            builder.extension(name, "").unwrap();
        }
        builder.extension("permit-X11-forwarding", "").unwrap();
    });
    assert_eq!(judged(&all, &KeyOptions::default()), Ok(KeyOptions::default()));
    // What the line of the authority takes away, no certificate gives back.
    let line = KeyOptions { pty: false, command: Some("true".into()), ..KeyOptions::default() };
    assert_eq!(judged(&all, &line), Ok(line));
}

#[test]
fn valid_from_the_first_second_to_the_one_before_the_last() {
    let certificate = certificate(|_| {});
    let judged =
        |seconds| judge(&certificate, Principals::Login("lee"), &KeyOptions::default(), at(seconds)).err();
    assert_eq!(judged(999), Some(CertificateProblem::NotYet));
    assert_eq!(judged(1000), None);
    assert_eq!(judged(1999), None);
    assert_eq!(judged(2000), Some(CertificateProblem::Expired));
}

#[test]
fn principals_are_compared_as_they_are() {
    let certificate = certificate(|_| {});
    let judged = |principals: Principals<'_>| {
        judge(&certificate, principals, &KeyOptions::default(), at(1500)).is_ok()
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (listed, login, fits) in [
        (None, "kim", true),
        (None, "Kim", false),
        (None, "", false),
        (None, "*", false),
        (Some(names(&["lee"])), "anything", true),
        (Some(names(&["ops", "lee"])), "ops", true),
        (Some(names(&["ops"])), "kim", false),
        (Some(names(&["*"])), "kim", false),
        (Some(names(&["k"])), "kim", false),
        (Some(names(&[])), "kim", false),
    ] {
        let principals = listed.as_deref().map_or(Principals::Login(login), Principals::OneOf);
        assert_eq!(judged(principals), fits, "{principals:?}");
    }
}

#[test]
fn a_certificate_for_everybody_is_for_nobody() {
    let mut builder = Builder::new(vec![7; 32], key(1).public_key(), 1000, 2000).unwrap();
    builder.cert_type(CertType::User).unwrap().all_principals_valid().unwrap();
    let certificate = builder.sign(&key(2)).unwrap();
    assert_eq!(judged(&certificate, &KeyOptions::default()), Err(CertificateProblem::NoPrincipals));
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let good = certificate(|_| {}).to_bytes().unwrap();
    let at = good.windows(3).position(|bytes| bytes == b"lee").unwrap();
    let mut bad = good.clone();
    bad[at..at + 3].copy_from_slice(b"ann");
    let bad = Certificate::from_bytes(&bad).unwrap();
    assert_eq!(judged(&bad, &KeyOptions::default()), Err(CertificateProblem::Signature));
    assert!(judged(&Certificate::from_bytes(&good).unwrap(), &KeyOptions::default()).is_ok());
}

#[test]
fn hosts_and_critical_options_are_refused_in_plain_words() {
    let host = signed(CertType::Host, |_| {});
    assert_eq!(judged(&host, &KeyOptions::default()), Err(CertificateProblem::Host));
    for (name, value) in [("source-address", "0.0.0.0/0"), ("verify-required", ""), ("force-command", "a\0b")]
    {
        let certificate = certificate(|builder| {
            builder.critical_option(name, value).unwrap();
        });
        let problem = judged(&certificate, &KeyOptions::default()).unwrap_err().to_string();
        assert!(problem.starts_with(&format!("certificate has the critical option {name}: ")), "{problem}");
    }
}

#[test]
fn a_forced_command_is_kept_and_two_have_to_agree() {
    let certificate = certificate(|builder| {
        builder.critical_option("force-command", "uptime").unwrap();
    });
    let line =
        |command: Option<&str>| KeyOptions { command: command.map(Into::into), ..KeyOptions::default() };
    for same in [None, Some("uptime")] {
        assert_eq!(judged(&certificate, &line(same)).unwrap().command.as_deref(), Some("uptime"));
    }
    assert!(judged(&certificate, &line(Some("true"))).is_err());
}

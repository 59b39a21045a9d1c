//! Handshakes in memory: what is shown when, what is resumed, and who is believed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use converge_certs::{
    ACME_TLS_ALPN, Certificate, ClientAuthority, Identity, SubjectName, Trust, TrustConfig, acme,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ServerConfig, ServerConnection,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const ALPN: &[&[u8]] = &[b"converge/1"];

/// Both ends after a handshake that may have failed.
struct Ends {
    client: ClientConnection,
    server: ServerConnection,
    outcome: Result<(), rustls::Error>,
}

fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> Ends {
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let outcome = (|| {
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut input = &wire[..];
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut input = &wire[..];
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    })();
    Ends { client, server, outcome }
}

fn identity() -> (Identity, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
    (identity, directory)
}

fn another_certificate() -> Certificate {
    let directory = tempfile::tempdir().unwrap();
    Identity::self_signed(directory.path(), &["localhost".to_owned()]).unwrap();
    from(directory.path(), "certificate")
}

fn from(directory: &Path, name: &str) -> Certificate {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    Certificate::from_files(&file("pem"), &file("key")).unwrap()
}

fn insecure() -> Arc<ClientConfig> {
    Arc::new(TrustConfig::new(Trust::Insecure).unwrap().client_config(ALPN).unwrap())
}

fn shown(ends: &Ends) -> [u8; 32] {
    let chain = ends.client.peer_certificates().unwrap();
    converge_certs::spki_sha256(chain.first().unwrap()).unwrap()
}

#[test]
fn replaced_certificate_is_shown_by_configurations_that_were_made_before() {
    let (identity, _directory) = identity();
    let server = Arc::new(identity.server_config(ALPN).unwrap());
    let before = identity.spki_sha256();
    let first = shake(&insecure(), &server, "localhost");
    first.outcome.as_ref().unwrap();
    assert_eq!(shown(&first), before);

    identity.clone().replace(another_certificate());
    assert_ne!(identity.spki_sha256(), before);
    let second = shake(&insecure(), &server, "localhost");
    second.outcome.as_ref().unwrap();
    assert_eq!(shown(&second), identity.spki_sha256());
}

#[test]
fn session_is_resumed_over_a_change_of_the_certificate() {
    let (identity, _directory) = identity();
    let server = Arc::new(identity.server_config(ALPN).unwrap());
    let client = insecure();
    let first = shake(&client, &server, "localhost");
    assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
    identity.replace(another_certificate());
    let second = shake(&client, &server, "localhost");
    second.outcome.as_ref().unwrap();
    assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(second.server.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn no_data_is_taken_or_sent_before_the_handshake_is_over() {
    let (identity, _directory) = identity();
    let server = identity.server_config(ALPN).unwrap();
    assert_eq!(server.max_early_data_size, 0);
    assert!(!server.send_half_rtt_data);

    // A client that would send early data is not offered to.
    let server = Arc::new(server);
    let mut client = TrustConfig::new(Trust::Insecure).unwrap().client_config(ALPN).unwrap();
    client.enable_early_data = true;
    let client = Arc::new(client);
    shake(&client, &server, "localhost").outcome.unwrap();
    let mut again = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    assert!(again.early_data().is_none());
}

#[test]
fn proof_is_for_who_asks_for_it_alone() {
    let (identity, _directory) = identity();
    let server = Arc::new(identity.server_config(&[b"h2", b"http/1.1", ACME_TLS_ALPN]).unwrap());
    let asking =
        |alpn: &[&[u8]]| Arc::new(TrustConfig::new(Trust::Insecure).unwrap().client_config(alpn).unwrap());
    let asking_for_proof = asking(&[ACME_TLS_ALPN]);

    let nothing_yet = shake(&asking_for_proof, &server, "relay.example");
    nothing_yet.outcome.unwrap_err();

    let own_key = identity.spki_sha256();
    identity.prove(acme::Proof::new("Relay.example", &[7; 32]).unwrap());
    // rustls' own clients read no certificate with a critical extension that they do not know, but they do see it.
    let asked = shake(&asking_for_proof, &server, "relay.example").outcome.unwrap_err();
    assert!(matches!(asked, rustls::Error::InvalidCertificate(_)), "{asked}");
    let leaf = Arc::new(Asker::default());
    let mut asking_and_noting = Arc::unwrap_or_clone(asking_for_proof.clone());
    asking_and_noting.dangerous().set_certificate_verifier(leaf.clone());
    let asked = shake(&Arc::new(asking_and_noting), &server, "relay.example");
    asked.outcome.unwrap();
    assert_eq!(asked.client.alpn_protocol(), Some(ACME_TLS_ALPN));
    let leaf = leaf.0.lock().unwrap().clone();
    // RFC 8737 section 3: a critical extension 1.3.6.1.5.5.7.1.31 with an octet string.
    let extension =
        [&[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20][..], &[7; 32]];
    let extension = extension.concat();
    assert!(leaf.windows(extension.len()).any(|window| window == extension));

    shake(&asking_for_proof, &server, "other.example").outcome.unwrap_err();
    let browser = shake(&asking(&[b"h2", b"http/1.1"]), &server, "relay.example");
    assert_eq!(shown(&browser), own_key);
    let both = shake(&asking(&[b"h2", ACME_TLS_ALPN]), &server, "relay.example");
    assert_eq!(shown(&both), own_key);

    identity.forget_proofs();
    shake(&asking_for_proof, &server, "relay.example").outcome.unwrap_err();
}

/// Notes what it is shown, as an ACME server would.
#[derive(Debug, Default)]
struct Asker(Mutex<Vec<u8>>);

impl ServerCertVerifier for Asker {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = leaf.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        converge_certs::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An authority that has issued `agent.pem` with `agent.key`.
fn authority(directory: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, directory.display().to_string());
    fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);

    let mut params = CertificateParams::new(["runner-7.ci.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://example/ci".try_into().unwrap()));
    params.subject_alt_names.push(SanType::Rfc822Name("ci@example".try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "runner 7");
    let key = KeyPair::generate().unwrap();
    fs::write(directory.join("agent.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(directory.join("agent.key"), key.serialize_pem()).unwrap();
}

fn showing(certificate: Certificate) -> Arc<ClientConfig> {
    let trust = TrustConfig::new(Trust::Insecure).unwrap().showing(Some(certificate));
    Arc::new(trust.client_config(ALPN).unwrap())
}

#[test]
fn certificate_of_the_authority_is_believed_and_read() {
    let ca = tempfile::tempdir().unwrap();
    authority(ca.path());
    let agents = Arc::new(ClientAuthority::from_file(&ca.path().join("ca.pem")).unwrap());
    let (identity, _directory) = identity();
    let identity = identity.with_client_authority(agents.clone());
    let server = Arc::new(identity.server_config(ALPN).unwrap());

    let client = showing(from(ca.path(), "agent"));
    let ends = shake(&client, &server, "localhost");
    ends.outcome.as_ref().unwrap();
    let seen = agents.verify(ends.server.peer_certificates().unwrap()).unwrap();
    assert_eq!(seen.common_name.as_deref(), Some("runner 7"));
    assert_eq!(
        seen.names,
        [
            SubjectName::Dns("runner-7.ci.example".to_owned()),
            SubjectName::Uri("spiffe://example/ci".to_owned()),
            SubjectName::Email("ci@example".to_owned()),
        ]
    );
    assert_eq!(seen.names.first().unwrap().to_string(), "DNS:runner-7.ci.example");

    // Who shows none goes on without.
    let without = shake(&insecure(), &server, "localhost");
    without.outcome.as_ref().unwrap();
    assert!(without.server.peer_certificates().is_none());

    // Another's is refused.
    let stranger = tempfile::tempdir().unwrap();
    authority(stranger.path());
    let refused = shake(&showing(from(stranger.path(), "agent")), &server, "localhost");
    assert!(matches!(refused.outcome, Err(rustls::Error::InvalidCertificate(_))), "{:?}", refused.outcome);
}

#[test]
fn resumed_session_is_not_believed_of_an_authority_that_is_gone() {
    let ca = tempfile::tempdir().unwrap();
    authority(ca.path());
    let file = ca.path().join("ca.pem");
    let agents = Arc::new(ClientAuthority::from_file(&file).unwrap());
    let (identity, _directory) = identity();
    let identity = identity.with_client_authority(agents.clone());
    let server = Arc::new(identity.server_config(ALPN).unwrap());
    let client = showing(from(ca.path(), "agent"));
    shake(&client, &server, "localhost").outcome.unwrap();
    assert!(!agents.reload().unwrap());

    let other = tempfile::tempdir().unwrap();
    authority(other.path());
    fs::copy(other.path().join("ca.pem"), &file).unwrap();
    assert!(agents.reload().unwrap());
    let resumed = shake(&client, &server, "localhost");
    resumed.outcome.as_ref().unwrap();
    assert_eq!(resumed.server.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(agents.verify(resumed.server.peer_certificates().unwrap()), None);
    // And the new one's is believed at once.
    shake(&showing(from(other.path(), "agent")), &server, "localhost").outcome.unwrap();

    fs::write(&file, "no certificate").unwrap();
    agents.reload().unwrap_err();
    shake(&showing(from(other.path(), "agent")), &server, "localhost").outcome.unwrap();
}

#[test]
fn relay_of_a_cluster_sees_in_a_resumed_session_whose_certificate_another_has_seen_and_judges_it_itself() {
    let (ca, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority(ca.path());
    authority(other.path());
    let relay = |trusted: &TempDir| {
        let (identity, _directory) = identity();
        let agents = Arc::new(ClientAuthority::from_file(&trusted.path().join("ca.pem")).unwrap());
        let identity = identity.with_cluster_secret([3; 32]).with_client_authority(agents.clone());
        (agents, Arc::new(identity.server_config(ALPN).unwrap()))
    };
    let (_, first) = relay(&ca);
    for (trusted, is_believed) in [(&ca, true), (&other, false)] {
        let client = showing(from(ca.path(), "agent"));
        shake(&client, &first, "localhost").outcome.unwrap();
        let (agents, second) = relay(trusted);
        let resumed = shake(&client, &second, "localhost");
        resumed.outcome.as_ref().unwrap();
        assert_eq!(resumed.server.handshake_kind(), Some(HandshakeKind::Resumed));
        let seen = agents.verify(resumed.server.peer_certificates().unwrap());
        assert_eq!(seen.and_then(|seen| seen.common_name).is_some(), is_believed);
    }
}

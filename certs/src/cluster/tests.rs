//! Clusters on disk, and handshakes between their relays.

use super::*;
use rustls::{AlertDescription, CertificateError, ClientConnection, Connection, Error, ServerConnection};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

const ALPN: &[&[u8]] = &[b"converge-cluster.1"];

/// A cluster, with room for the directories of its relays.
struct Cluster(TempDir);

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        init(&directory.path().join("home"), &[]).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn join(&self, number: u16) -> ClusterIdentity {
        self.join_at(number, SystemTime::now()).unwrap()
    }

    fn join_at(&self, number: u16, now: SystemTime) -> Result<ClusterIdentity, ClusterError> {
        let out = self.path(&number.to_string());
        join(&self.path("home"), relay_number(number), &out, Join::First, now)
    }
}

fn relay_number(number: u16) -> RelayNumber {
    RelayNumber::new(number).unwrap()
}

#[track_caller]
fn refusal(directory: &Path) -> String {
    ClusterIdentity::load(directory).unwrap_err().to_string()
}

/// Eleven years ago.
fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_hours(24 * 365 * 11)
}

/// What came of a handshake, at the end that dials and at the one that is dialed.
type Outcome = (Result<Option<RelayNumber>, Error>, Result<Option<RelayNumber>, Error>);

/// A handshake in which `dialing` means relay `meant` and reaches `dialed`.
fn handshake(dialing: &ClusterIdentity, meant: u16, dialed: &ClusterIdentity) -> Outcome {
    outcome(dialing.client_config(ALPN).unwrap(), meant, dialed.server_config(ALPN).unwrap())
}

fn outcome(client: rustls::ClientConfig, meant: u16, server: rustls::ServerConfig) -> Outcome {
    let name = relay_name(relay_number(meant)).try_into().unwrap();
    let mut client: Connection = ClientConnection::new(Arc::new(client), name).unwrap().into();
    let mut server: Connection = ServerConnection::new(Arc::new(server)).unwrap().into();
    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    // Until neither has anything to say; a whole handshake takes two rounds.
    for _ in 0..10 {
        carry(&mut client, &mut server, &mut at_server);
        carry(&mut server, &mut client, &mut at_client);
    }
    let peer = |connection: &Connection| {
        assert!(!connection.is_handshaking());
        assert_eq!(connection.alpn_protocol(), Some(ALPN[0]));
        peer_number(connection.peer_certificates().unwrap())
    };
    (at_client.map(|()| peer(&client)), at_server.map(|()| peer(&server)))
}

/// Brings what `from` has to say to `to`, as long as that listens.
fn carry(from: &mut Connection, to: &mut Connection, at: &mut Result<(), Error>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() && at.is_ok() {
        to.read_tls(&mut bytes).unwrap();
        *at = to.process_new_packets().map(|_| ());
    }
}

#[test]
fn relays_of_one_cluster_know_each_other_by_number() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.join(1), cluster.join(4095));
    assert_eq!((one.number(), two.number()), (relay_number(1), relay_number(4095)));
    assert_eq!(handshake(&one, 4095, &two), (Ok(Some(two.number())), Ok(Some(one.number()))));
    assert_eq!(handshake(&two, 1, &one), (Ok(Some(one.number())), Ok(Some(two.number()))));
    assert_eq!(one.secret(), two.secret());
    assert_eq!(one.shared().spki_sha256(), two.shared().spki_sha256());
    assert_eq!(one.shared().current().facts().names, ["localhost"]);
    let years = one.not_after().duration_since(SystemTime::now()).unwrap().as_secs() / (365 * 24 * 3600);
    assert_eq!(years, 10);
}

#[test]
fn relay_that_answers_in_the_place_of_another_is_refused() {
    let cluster = Cluster::new();
    let (one, two, three) = (cluster.join(1), cluster.join(2), cluster.join(3));
    let (at_client, at_server) = handshake(&three, 1, &two);
    let Err(Error::InvalidCertificate(error)) = at_client else { panic!("{at_client:?}") };
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    assert_eq!(at_server, Err(Error::AlertReceived(AlertDescription::BadCertificate)));
    assert!(handshake(&three, 1, &one).0.is_ok());
}

#[test]
fn other_clusters_are_refused_whichever_end_they_are() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (one, other) = (ours.join(1), theirs.join(1));
    let (at_client, at_server) = handshake(&one, 1, &other);
    assert!(matches!(at_client, Err(Error::InvalidCertificate(_))), "{at_client:?}");
    assert!(matches!(at_server, Err(Error::AlertReceived(_))), "{at_server:?}");

    // One that would trust a relay of ours, and shows what it has from another cluster.
    let mut disguised = one.clone();
    disguised.certificate = other.certificate.clone();
    let (at_client, at_server) = handshake(&disguised, 1, &one);
    assert!(matches!(at_server, Err(Error::InvalidCertificate(_))), "{at_server:?}");
    assert!(matches!(at_client, Err(Error::AlertReceived(_))), "{at_client:?}");
    assert_ne!(one.secret(), other.secret());
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let one = Cluster::new().join(1);
    let own = one.client_config(ALPN).unwrap();
    let mut silent = rustls::ClientConfig::builder_with_provider(crate::provider())
        .with_protocol_versions(crate::TLS_VERSIONS)
        .unwrap()
        .with_root_certificates(one.roots.clone())
        .with_no_client_auth();
    silent.alpn_protocols = own.alpn_protocols;
    let (at_client, at_server) = outcome(silent, 1, one.server_config(ALPN).unwrap());
    assert_eq!(at_server, Err(Error::NoCertificatesPresented));
    assert_eq!(at_client, Err(Error::AlertReceived(AlertDescription::CertificateRequired)));
}

#[test]
fn expired_relays_are_refused_whichever_end_they_are() {
    let cluster = Cluster::new();
    let one = cluster.join(1);
    let old = cluster.join_at(2, long_ago()).unwrap();
    let is_expiry = |outcome: &Result<_, Error>| {
        matches!(
            outcome,
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        )
    };
    let (at_client, at_server) = handshake(&one, 2, &old);
    assert!(is_expiry(&at_client), "{at_client:?}");
    assert_eq!(at_server, Err(Error::AlertReceived(AlertDescription::CertificateExpired)));
    let (at_client, at_server) = handshake(&old, 1, &one);
    assert!(is_expiry(&at_server), "{at_server:?}");
    assert_eq!(at_client, Err(Error::AlertReceived(AlertDescription::CertificateExpired)));

    let directory = cluster.path("2");
    let expected = format!(
        "{}/relay.pem has expired; make a new one with `converge-relay cluster join --number 2 --again`",
        directory.display()
    );
    assert_eq!(refusal(&directory), expected);
}

#[test]
fn other_protocols_are_refused() {
    let one = Cluster::new().join(1);
    let (client, server) = (one.client_config(&[b"other"]).unwrap(), one.server_config(ALPN).unwrap());
    assert_eq!(outcome(client, 1, server).1, Err(Error::NoApplicationProtocol));
}

#[test]
fn certificates_with_other_names_have_no_number() {
    let named = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        peer_number(&[certificate.der().clone()])
    };
    assert_eq!(named(&["relay-17.cluster.converge"]), Some(relay_number(17)));
    for wrong in [
        &[][..],
        &["relay-0.cluster.converge"],
        &["relay-01.cluster.converge"],
        &["relay-4096.cluster.converge"],
        &["relay-1cluster.converge"],
        &["relay-1.cluster.converge.example"],
        &["x.relay-1.cluster.converge"],
        &["*.cluster.converge"],
        &["relay-1.cluster.converge", "relay-2.cluster.converge"],
    ] {
        assert_eq!(named(wrong), None, "{wrong:?}");
    }
    assert_eq!(peer_number(&[]), None);
    assert_eq!(peer_number(&[CertificateDer::from(vec![0x30, 0x82, 0xff])]), None);
}

#[test]
fn nothing_is_overwritten_and_no_number_is_given_twice() {
    let cluster = Cluster::new();
    let (home, directory) = (cluster.path("home"), cluster.path("1"));
    let is_there = |file: PathBuf| {
        format!(
            "{} is there already and is not overwritten; name another directory, or move it away",
            file.display()
        )
    };
    let before = fs::read(home.join("ca.key")).unwrap();
    assert_eq!(init(&home, &[]).unwrap_err().to_string(), is_there(home.join("ca.pem")));
    assert_eq!(fs::read(home.join("ca.key")).unwrap(), before);

    let first = cluster.join(1);
    let error = cluster.join_at(1, SystemTime::now()).unwrap_err().to_string();
    assert_eq!(error, is_there(directory.join("ca.pem")));
    let again = |how| join(&home, relay_number(1), &cluster.path("again"), how, SystemTime::now());
    let expected = format!(
        "relay 1 has its files already, as {} says; choose another number, or say --again if they are lost or expire",
        home.join("relays/1").display()
    );
    assert_eq!(again(Join::First).unwrap_err().to_string(), expected);
    let again = again(Join::Again).unwrap();
    assert_eq!(again.number(), first.number());
    assert!(!again.certificate.is_same(&first.certificate));
    let given = fs::read_to_string(home.join("relays/1")).unwrap();
    assert_eq!(given, fs::read_to_string(cluster.path("again/relay.pem")).unwrap());
    assert!(handshake(&again, 1, &first).0.is_ok());
}

#[test]
fn key_of_the_authority_stays_at_home() {
    let cluster = Cluster::new();
    cluster.join(1);
    let mut names: Vec<_> =
        fs::read_dir(cluster.path("1")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca.pem", "certificate.key", "certificate.pem", "relay.key", "relay.pem", "secret"]);
    let home = cluster.path("home");
    let expected = format!(
        "{} is where the cluster was made, not the directory of a relay; make one with `converge-relay cluster join`, and \
         keep ca.key away from relays",
        home.display()
    );
    assert_eq!(refusal(&home), expected);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name_and_a_remedy() {
    let cluster = Cluster::new();
    let directory = cluster.path("1");
    cluster.join(1);
    let shown = directory.display();
    let join_makes = "`converge-relay cluster join` makes all files of a relay, to be copied together";
    for name in ["ca.pem", "certificate.key", "certificate.pem", "relay.key", "relay.pem", "secret"] {
        let file = directory.join(name);
        let good = fs::read(&file).unwrap();
        fs::write(&file, "garbage").unwrap();
        let expected = match name {
            "secret" => {
                format!("{shown}/secret is not 32 bytes long; copy it again from where the cluster was made")
            }
            "ca.pem" | "certificate.pem" | "relay.pem" => {
                format!("{shown}/{name} holds no certificate; {join_makes}")
            }
            _ => format!("{shown}/{name} is not usable PEM: no items found; {join_makes}"),
        };
        assert_eq!(refusal(&directory), expected);
        fs::remove_file(&file).unwrap();
        let expected = format!("cannot read {shown}/{name}: ");
        let error = refusal(&directory);
        assert!(error.starts_with(&expected) && error.ends_with(join_makes), "{error}");
        crate::write_private(&file, &good).unwrap();
        ClusterIdentity::load(&directory).unwrap();
    }
    let home = cluster.path("home");
    fs::remove_file(home.join("ca.key")).unwrap();
    let error = cluster.join_at(2, SystemTime::now()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}/ca.key: ", home.display())), "{error}");
    assert!(
        error.ends_with("`converge-relay cluster init` has made the directory that relays join from"),
        "{error}"
    );
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (cluster, theirs) = (Cluster::new(), Cluster::new());
    cluster.join(1);
    theirs.join(1);
    let directory = cluster.path("1");
    let shown = directory.display();
    let ours = fs::read(directory.join("ca.pem")).unwrap();
    fs::copy(theirs.path("1/ca.pem"), directory.join("ca.pem")).unwrap();
    let expected = format!(
        "{shown}/relay.pem was not issued by the authority in {shown}/ca.pem; both are to come from the same \
         `converge-relay cluster join`"
    );
    assert_eq!(refusal(&directory), expected);
    fs::write(directory.join("ca.pem"), ours).unwrap();

    fs::copy(theirs.path("1/relay.key"), directory.join("relay.key")).unwrap();
    assert!(refusal(&directory).contains("cannot be used together"), "{}", refusal(&directory));

    for (name, of) in [("relay.pem", "certificate.pem"), ("relay.key", "certificate.key")] {
        fs::copy(directory.join(of), directory.join(name)).unwrap();
    }
    let expected = format!(
        "{shown}/relay.pem is not the certificate of a relay of a cluster, as `converge-relay cluster join` makes them"
    );
    assert_eq!(refusal(&directory), expected);
}

#[test]
fn certificate_of_tomorrow_is_not_valid_yet() {
    let cluster = Cluster::new();
    cluster.join_at(1, SystemTime::now() + Duration::from_hours(72)).unwrap();
    let directory = cluster.path("1");
    let expected =
        format!("{}/relay.pem is not valid yet; is the clock of this machine right?", directory.display());
    assert_eq!(refusal(&directory), expected);
    for absurd in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 10_000)] {
        let error = cluster.join_at(2, absurd).unwrap_err();
        assert!(matches!(error, ClusterError::Clock), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn secrets_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    cluster.join(1);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in ["home", "home/relays", "1"] {
        assert_eq!(mode(cluster.path(directory)), 0o700, "{directory}");
    }
    for file in ["home/ca.key", "home/secret", "home/certificate.key"] {
        assert_eq!(mode(cluster.path(file)), 0o600, "{file}");
    }
    let directory = cluster.path("1");
    let set = |name: &str, mode| {
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["relay.key", "secret", "certificate.key"] {
        assert_eq!(mode(directory.join(name)), 0o600, "{name}");
        for open in [0o644, 0o604, 0o620] {
            set(name, open);
            let file = directory.join(name);
            let file = file.display();
            let expected =
                format!("{file} is open to others (its mode is {open:04o}); run `chmod 600 {file}`");
            assert_eq!(refusal(&directory), expected);
        }
        for closed in [0o400, 0o440, 0o640, 0o600] {
            set(name, closed);
            ClusterIdentity::load(&directory).unwrap();
        }
    }
}

#[test]
fn names_of_the_shared_certificate_are_those_that_were_given() {
    let directory = tempfile::tempdir().unwrap();
    let (home, out) = (directory.path().join("home"), directory.path().join("1"));
    let names = ["relay.example".to_owned(), "192.0.2.1".to_owned()];
    init(&home, &names).unwrap();
    let one = join(&home, relay_number(1), &out, Join::First, SystemTime::now()).unwrap();
    assert_eq!(one.shared().current().facts().names, names);
    let error = init(&directory.path().join("other"), &["\u{fc}".to_owned()]).unwrap_err();
    assert!(matches!(error, ClusterError::Mint(_)), "{error}");
    assert!(!directory.path().join("other").exists());
}

#[test]
fn debug_output_has_no_secret_in_it() {
    let text = format!("{:?}", Cluster::new().join(7));
    assert_eq!(text, "ClusterIdentity { number: 7, .. }");
}

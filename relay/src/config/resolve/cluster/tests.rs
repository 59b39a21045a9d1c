//! What is made of flags, and what is said of those that make no sense.

use crate::{
    command_line::CommandLine,
    config::{Config, Loaded, cluster::EtcdPrefix, resolve::resolve},
    tls::Source,
};
use converge_certs::cluster::{Join, init, join};
use converge_proto::RelayNumber;
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};
use tempfile::TempDir;

/// The directory of relay 7.
fn relay_7() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (home, out) = (directory.path().join("home"), directory.path().join("7"));
    init(&home, &[]).unwrap();
    join(&home, RelayNumber::new(7).unwrap(), &out, Join::First, SystemTime::now()).unwrap();
    (directory, out)
}

fn resolved(state: &Path, words: &[&str]) -> Result<Config, String> {
    let state = state.join("state");
    let mut all = vec!["--listen", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()];
    all.extend(words);
    let loaded = Loaded::new(&CommandLine::without_environment(&all)).unwrap();
    resolve(&loaded).map_err(|problems| problems.to_string())
}

#[track_caller]
fn refused(state: &Path, words: &[&str], expected: &[&str]) {
    let error = resolved(state, words).unwrap_err();
    assert_eq!(error.lines().collect::<Vec<_>>(), expected, "{words:?}");
}

#[test]
fn little_is_enough_to_be_one_of_several() {
    let (state, dir) = relay_7();
    let dir = dir.to_str().unwrap();
    let words = ["--cluster-dir", dir, "--etcd", "http://[::1]:2379", "--cluster-listen", "127.0.0.1:0"];
    let config = resolved(state.path(), &words).unwrap();
    assert!(matches!(config.certificate_source, Source::Kept) && config.self_signed);
    let cluster = config.cluster.unwrap();
    assert_eq!(cluster.identity.number().get(), 7);
    assert_eq!(config.identity.spki_sha256(), cluster.identity.shared().spki_sha256());
    assert_eq!((cluster.listen, cluster.address), ("127.0.0.1:0".parse().unwrap(), None));
    assert!(cluster.forwards_packets && cluster.relay_url.is_none());
    assert_eq!(cluster.etcd.endpoints, ["http://[::1]:2379".parse().unwrap()]);
    assert_eq!(cluster.etcd.prefix, EtcdPrefix::default());
    assert!(cluster.etcd.ca.is_none() && cluster.etcd.certificate.is_none() && cluster.etcd.user.is_none());
    assert!(!state.path().join("state").exists(), "no certificate of its own is made");
}

#[test]
fn everything_that_was_said_is_used() {
    let (state, dir) = relay_7();
    let file = |name: &str| dir.join(name).display().to_string();
    let (dir_text, ca) = (dir.display().to_string(), file("ca.pem"));
    let (certificate, key, password) = (file("certificate.pem"), file("certificate.key"), file("password"));
    fs::write(&password, "hunter2\n").unwrap();
    let words = [
        ["--cluster-dir", &dir_text],
        ["--cluster-address", "relay-7.internal:5555"],
        ["--relay-url", "https://relay-7.example"],
        ["--cluster-forward-packets", "false"],
        ["--etcd", "https://one,https://two:1"],
        ["--etcd-prefix", "/other/"],
        ["--etcd-ca", &ca],
        ["--etcd-cert", &certificate],
        ["--etcd-key", &key],
        ["--etcd-user", "relay"],
        ["--etcd-password-file", &password],
    ];
    let cluster = resolved(state.path(), words.as_flattened()).unwrap().cluster.unwrap();
    assert_eq!(cluster.listen, "[::]:4434".parse().unwrap());
    assert_eq!(cluster.address.unwrap().to_string(), "relay-7.internal:5555");
    assert_eq!(cluster.relay_url.unwrap().to_string(), "https://relay-7.example");
    assert!(!cluster.forwards_packets);
    let etcd = cluster.etcd;
    assert_eq!(
        etcd.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://one:2379", "https://two:1"]
    );
    assert_eq!(etcd.prefix.as_str(), "/other/");
    assert_eq!(etcd.ca.as_deref(), Some(dir.join("ca.pem").as_path()));
    assert_eq!(etcd.certificate.unwrap().key, dir.join("certificate.key"));
    let user = etcd.user.unwrap();
    assert_eq!((user.name.as_str(), user.password().unwrap().as_str()), ("relay", "hunter2"));
}

#[test]
fn certificates_that_were_given_or_are_ordered_go_before_that_of_the_cluster() {
    let (state, dir) = relay_7();
    let (_other, other_dir) = relay_7();
    let file = |name: &str| other_dir.join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("certificate.key"));
    let dir = dir.to_str().unwrap();
    let cluster = ["--cluster-dir", dir, "--etcd", "http://one", "--cluster-address", "one:4434"];
    let given = [&cluster[..], &["--cert", &certificate, "--key", &key]].concat();
    let config = resolved(state.path(), &given).unwrap();
    assert!(matches!(config.certificate_source, Source::Files(_)) && !config.self_signed);
    assert_ne!(config.identity.spki_sha256(), config.cluster.unwrap().identity.shared().spki_sha256());
    let ordered = [&cluster[..], &["--acme-domain", "relay.example"]].concat();
    let config = resolved(state.path(), &ordered).unwrap();
    assert!(matches!(config.certificate_source, Source::Acme(_)) && config.cluster.is_some());
}

#[test]
fn half_of_what_is_needed_is_refused_with_the_other_half() {
    let (state, dir) = relay_7();
    let dir = dir.to_str().unwrap();
    let etcd = "the relays of a cluster find each other through etcd: say where that is, such as \
                http://etcd.internal:2379; see --etcd ([cluster] etcd in the file)";
    let address = "the other relays must be told where this one is: say a host and a port that lead to [::]:4434 over \
                   UDP, such as relay-1.internal:4434; see --cluster-address ([cluster] cluster-address in the file)";
    refused(state.path(), &["--cluster-dir", dir], &[etcd, address]);
    refused(
        state.path(),
        &["--cluster-dir", dir, "--cluster-listen", "0.0.0.0:7", "--etcd", "http://one"],
        &[&address.replace("[::]:4434", "0.0.0.0:7")],
    );
    for words in [["--etcd", "http://one"], ["--relay-url", "https://one"], ["--cluster-listen", "[::]:4434"]]
    {
        let field = words[0].trim_start_matches('-');
        let expected = format!(
            "this is for one of several relays that act as one, and nothing says which one this is: name the directory \
             that `converge-relay cluster join` has made; see --cluster-dir ([cluster] cluster-dir in the file) and \
             --{field} ([cluster] {field} in the file)"
        );
        refused(state.path(), &words, &[&expected]);
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (state, dir) = relay_7();
    let file = |name: &str| dir.join(name).display().to_string();
    let (dir_text, certificate, key) =
        (dir.display().to_string(), file("certificate.pem"), file("certificate.key"));
    let with = |more: &[&str], expected: &[&str]| {
        let cluster = ["--cluster-dir", &dir_text, "--cluster-address", "one:4434"];
        refused(state.path(), &[&cluster[..], more].concat(), expected);
    };
    let place = |field: &str| format!("--{field} ([cluster] {field} in the file)");
    with(
        &["--etcd", "http://one,https://two"],
        &[&format!("either all of them are https:// or none is; see {}", place("etcd"))],
    );
    with(
        &["--etcd", "http://one", "--etcd-ca", &certificate],
        &[&format!(
            "certificates are for https://, and etcd is at http://; see {} and {}",
            place("etcd"),
            place("etcd-ca")
        )],
    );
    with(
        &["--etcd", "https://one", "--etcd-cert", &certificate],
        &[&format!("the certificate for etcd needs its private key; see {}", place("etcd-key"))],
    );
    with(
        &["--etcd", "https://one", "--etcd-key", &key],
        &[&format!("the private key for etcd needs its certificate; see {}", place("etcd-cert"))],
    );
    with(
        &["--etcd", "http://one", "--etcd-user", "relay"],
        &[&format!("the user of etcd needs a password; see {}", place("etcd-password-file"))],
    );
    with(
        &["--etcd", "http://one", "--etcd-password-file", &key],
        &[&format!("the password is for a user of etcd; say which; see {}", place("etcd-user"))],
    );
    let address = ["--etcd", "http://one", "--cluster-listen", "127.0.0.1:5", "--listen", "127.0.0.1:5"];
    let loaded = [&["--cluster-dir", dir_text.as_str()][..], &address].concat();
    let loaded = Loaded::new(&CommandLine::without_environment(&loaded)).unwrap();
    let expected = format!(
        "the other relays need an address of their own to come to; see {} and --listen ([listen] listen in the file)",
        place("cluster-listen")
    );
    assert_eq!(resolve(&loaded).unwrap_err().to_string(), expected);
}

#[test]
fn files_that_serve_nothing_are_named() {
    let (state, dir) = relay_7();
    let password = dir.join("password").display().to_string();
    let dir_text = dir.display().to_string();
    fs::write(&password, "\n").unwrap();
    fs::write(dir.join("secret"), "short").unwrap();
    let words = [
        ["--cluster-dir", &dir_text],
        ["--cluster-address", "one:4434"],
        ["--etcd", "https://one"],
        ["--etcd-ca", &password],
        ["--etcd-cert", &password],
        ["--etcd-key", &password],
        ["--etcd-user", "relay"],
        ["--etcd-password-file", &password],
    ];
    let place = |field: &str| format!("--{field} ([cluster] {field} in the file)");
    refused(
        state.path(),
        words.as_flattened(),
        &[
            &format!(
                "{dir_text}/secret is not 32 bytes long; copy it again from where the cluster was made; see {}",
                place("cluster-dir")
            ),
            &format!("{password} holds no certificate; see {}", place("etcd-ca")),
            &format!(
                "{password} is not usable PEM: no items found; see {} and {}",
                place("etcd-cert"),
                place("etcd-key")
            ),
            &format!("{password} is not one line with a password; see {}", place("etcd-password-file")),
        ],
    );
}

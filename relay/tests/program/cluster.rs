//! `converge-relay cluster`: from nothing to a relay's configuration.

use crate::relay::Files;
use std::process::{Command, Output};

/// Both outputs of a command that succeeds, and what it would have failed with.
#[track_caller]
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    String::from_utf8(stdout).unwrap()
}

#[track_caller]
fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn cluster_is_made_and_its_relays_are_configured() {
    let files = Files::new("");
    let cluster = |words: &str| {
        let mut command = files.clean(env!("CARGO_BIN_EXE_converge-relay"));
        command.arg("cluster").args(words.split(' '));
        command
    };
    let made = said(&mut cluster("init --dir home --names relay.example,relay.example.org"));
    assert!(made.contains("cluster join --dir home --number N --out relay-N"), "{made}");
    assert!(made.contains("home/ca.key"), "{made}");
    let error = refused(&mut cluster("init --dir home"));
    assert_eq!(
        error,
        "converge-relay: home/ca.pem is there already and is not overwritten; name another directory, or move it away\n"
    );

    let joined = said(&mut cluster("join --dir home --number 12 --out relay-12"));
    assert!(
        joined.starts_with("The files of relay 12 were made in relay-12; they are good until 20"),
        "{joined}"
    );
    assert!(joined.contains("home/ca.key stays where it is"), "{joined}");
    let error = refused(&mut cluster("join --dir home --number 12 --out twin"));
    assert!(error.contains("home/relays/12") && error.contains("--again"), "{error}");
    assert!(!files.path().join("twin/relay.key").exists());
    said(&mut cluster("join --dir home --number 12 --out twin --again"));
    let error = refused(&mut cluster("join --dir home --number 4096 --out x"));
    assert!(error.contains("the number of a relay is one of 1 to 4095"), "{error}");
    let error = refused(&mut cluster("join --dir nowhere --number 1 --out x"));
    assert!(error.contains("nowhere/ca.pem") && error.contains("cluster init"), "{error}");

    files.write(
        "[cluster]\ncluster-dir = 'relay-12'\ncluster-address = 'relay-12.internal:4434'\n\
         etcd = ['http://one', 'http://two:1']\n",
    );
    let report = said(files.relay().arg("--check-config"));
    let lines: Vec<_> = report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    for line in [
        ["cluster-dir", "relay-12", "(file)"],
        ["cluster-listen", "[::]:4434", "(default)"],
        ["cluster-forward-packets", "true", "(default)"],
        ["etcd", "http://one,http://two:1", "(file)"],
        ["etcd-prefix", "/converge/", "(default)"],
    ] {
        assert!(lines.iter().any(|words| words == &line), "{line:?} is not in {report}");
    }
    let error = refused(files.relay().args(["--check-config", "--cluster-dir", "home"]));
    assert!(error.contains("home is where the cluster was made"), "{error}");
}

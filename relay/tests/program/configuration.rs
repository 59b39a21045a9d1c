//! The configuration: flags over environment over file, and what is said of one that is wrong.

use crate::relay::Files;
use std::{
    fs,
    process::{Command, Output},
};

/// Both outputs of a relay that does not start.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stdout.is_empty());
    stderr
}

/// What a relay with a good configuration says of it.
#[track_caller]
fn checked(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.arg("--check-config").output().unwrap();
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The value of a key in such a report, and where it came from.
#[track_caller]
fn value_of(report: &str, key: &str) -> String {
    let line = report.lines().find(|line| line.split(' ').next() == Some(key));
    let words = line.unwrap_or_else(|| panic!("{key} is not in {report}")).split_whitespace();
    words.skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn flags_go_before_variables_and_those_before_the_file() {
    // A value of each kind: address, URL, path, time, filter.
    let of_flag = ["127.0.0.1:1", "https://flag", "flag", "1s", "warn"];
    let of_variable = ["127.0.0.1:2", "https://variable", "variable", "2s", "error"];
    let of_file = ["127.0.0.1:3", "https://file", "file", "3s", "debug"];
    let keys = ["http", "public-url", "state-dir", "drain-timeout", "log"];
    let [http, public_url, state_dir, drain_timeout, log] = of_file;
    let files = Files::new(&format!(
        "[listen]\nhttp = '{http}'\npublic-url = '{public_url}'\n[tls]\nstate-dir = '{state_dir}'\n\
         [limits]\ndrain-timeout = '{drain_timeout}'\n[log]\nlog = '{log}'\n"
    ));
    for (number, key) in keys.into_iter().enumerate() {
        let value = |command: &mut Command| value_of(&checked(command), key);
        let variable = format!("CONVERGE_{}", key.replace('-', "_").to_uppercase());
        assert_eq!(value(&mut files.relay()), format!("{} (file)", of_file[number]));
        let mut with_variable = files.relay();
        with_variable.env(&variable, of_variable[number]);
        assert_eq!(value(&mut with_variable), format!("{} (environment)", of_variable[number]));
        let mut with_flag = files.relay();
        with_flag.env(&variable, of_variable[number]).args([format!("--{key}"), of_flag[number].to_owned()]);
        assert_eq!(value(&mut with_flag), format!("{} (flag)", of_flag[number]));
    }
    let report = checked(&mut files.relay());
    assert_eq!(value_of(&report, "listen"), "[::]:4433 (default)");
    assert_eq!(value_of(&report, "cert"), "(not set)");
    // Nothing was made.
    assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
}

#[test]
fn example_is_accepted_and_changes_nothing() {
    let files = Files::new("");
    let without = checked(&mut files.relay());
    let example = files.relay().arg("--example-config").output().unwrap().stdout;
    assert!(example.starts_with(b"# Configuration of converge-relay"));
    fs::write(files.path().join("relay.toml"), example).unwrap();
    assert_eq!(checked(&mut files.relay()), without);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let files = Files::new("[tls]\ncert = 'relay.toml'\n[listen]\nhttp = '127.0.0.1:1'\n");
    let error = refused(files.relay().args(["--listen", "127.0.0.1:1", "--check-config"]));
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines.iter().all(|line| line.starts_with("converge-relay: ")), "{error}");
    assert!(error.contains("--key") && error.contains("--http ([listen] http in the file)"), "{error}");
}

#[test]
fn wrong_files_are_refused_with_their_place() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\nhttps = true\n");
    let error = refused(&mut files.relay());
    assert!(error.contains("relay.toml:3:1: ") && error.contains("https"), "{error}");
}

#[test]
fn certificate_and_key_may_come_from_different_places_but_both_must() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\n[tls]\ncert = 'missing.pem'\n");
    let error = refused(&mut files.relay());
    assert!(error.contains("--key ([tls] key in the file)"), "{error}");
    let error = refused(files.relay().env("CONVERGE_KEY", "missing.key"));
    assert!(error.contains("missing.pem") && error.contains("--cert ([tls] cert in the file)"), "{error}");
    assert!(!files.path().join("converge-relay-state").exists());
}

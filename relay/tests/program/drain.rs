//! `converge-relay drain`.

use crate::relay::{Files, Running};
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Output,
};

const FILE: &str = "[listen]\nlisten = '127.0.0.1:0'\n[tls]\nstate-dir = 'state'\n";

fn drain(files: &Files, arguments: &[&str]) -> Output {
    let mut command = files.clean(env!("CARGO_BIN_EXE_converge-relay"));
    command.arg("drain").args(arguments).output().unwrap()
}

fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn relay_that_is_asked_to_drain_ends_and_says_so() {
    for arguments in [["--state-dir", "state"], ["--config", "relay.toml"]] {
        let files = Files::new(FILE);
        let mut relay = Running::start(&files, &mut files.relay());
        relay.printed("relay:");
        let socket = files.path().join("state/control.sock");
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (status, told, errors) = words(&drain(&files, &arguments));
        assert_eq!(status, Some(0), "{told}{errors}");
        assert_eq!(told, "agents: 0, sessions: 0\nstopped; every session had ended\n");
        assert_eq!(errors, "");
        assert!(relay.ended().success());
        assert!(!socket.exists());
    }
}

#[test]
fn without_a_relay_there_is_nothing_to_drain() {
    let files = Files::new(FILE);
    let (status, told, errors) = words(&drain(&files, &["--state-dir", "nowhere"]));
    assert_eq!((status, told.as_str()), (Some(1), ""));
    let expected = "converge-relay: no relay listens on nowhere/control.sock; --state-dir must be that of a running relay";
    assert!(errors.starts_with(expected), "{errors}");
    let (status, _, errors) = words(&drain(&files, &["--config", "missing.toml"]));
    assert_eq!(status, Some(1));
    assert!(errors.contains("cannot read missing.toml"), "{errors}");
}

#[test]
fn what_a_killed_relay_has_left_is_replaced_and_what_another_one_has_is_not() {
    let files = Files::new(FILE);
    let mut killed = Running::start(&files, &mut files.relay());
    killed.printed("relay:");
    killed.signal(Signal::KILL);
    killed.ended();
    assert!(files.path().join("state/control.sock").exists());
    let mut relay = Running::start(&files, &mut files.relay());
    relay.printed("relay:");

    let second = Files::new(&FILE.replace("'state'", &format!("'{}'", files.path().join("state").display())));
    let mut second_relay = Running::start(&second, &mut second.relay());
    second_relay.logs("another relay with this state directory does");
    second_relay.signal(Signal::TERM);
    assert!(second_relay.ended().success());

    let (status, told, errors) = words(&drain(&files, &["--state-dir", "state"]));
    assert_eq!(status, Some(0), "{told}{errors}");
    assert!(relay.ended().success());
}

#[test]
fn whoever_asks_for_nonsense_or_nothing_does_not_stop_the_relay() {
    let files = Files::new(FILE);
    let mut relay = Running::start(&files, &mut files.relay());
    relay.printed("relay:");
    let socket = files.path().join("state/control.sock");
    let silent = UnixStream::connect(&socket).unwrap();
    for question in ["\n".to_owned(), "stop\n".to_owned(), "drain".repeat(1000)] {
        let mut asking = UnixStream::connect(&socket).unwrap();
        // It may have read enough before all of it is written.
        let _ = asking.write_all(question.as_bytes());
        let mut answer = String::new();
        let _ = asking.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("error "), "{answer}");
    }
    assert_eq!(words(&drain(&files, &["--state-dir", "state"])).0, Some(0));
    assert!(relay.ended().success());
    drop(silent);
}

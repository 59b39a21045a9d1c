//! Reading the file again while the relay runs.

use crate::relay::{Files, Running};
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

const LISTEN: &str = "[listen]\nlisten = '127.0.0.1:0'\n";

fn relay_with(more: &str) -> (Files, Running) {
    let files = Files::new(&format!("{LISTEN}{more}"));
    let mut relay = Running::start(&files, &mut files.relay());
    relay.logs("listening");
    (files, relay)
}

#[test]
fn what_can_change_changes_and_what_cannot_is_named() {
    let (files, mut relay) = relay_with("[log]\nlog = 'warn,converge_relay=info'\n");
    files.write(&format!(
        "{LISTEN}http = '127.0.0.1:0'\n[log]\nlog = 'warn,converge_relay=debug,tokio=info'\n"
    ));
    relay.signal(Signal::HUP);
    relay.logs("the configuration was read again changed=\"log\"");
    relay.logs("taken over only by a restart keys=\"http\"");

    // The new filter is in use: it says nothing of what the old one has let through.
    files.write(&format!("{LISTEN}http = '127.0.0.1:0'\n[log]\nlog = 'warn'\n"));
    relay.signal(Signal::HUP);
    // Still not as it was started.
    let twice = |log: &str| log.matches("taken over only by a restart keys=\"http\"").count() == 2;
    crate::relay::soon("a second warning", || twice(&relay.log()).then_some(()));
    relay.signal(Signal::TERM);
    assert!(relay.ended().success());
    let log = relay.log();
    assert_eq!(log.matches("the configuration was read again").count(), 1, "{log}");
    assert!(!log.contains("stopped"), "{log}");
}

#[test]
fn broken_file_changes_nothing_and_says_so() {
    let (files, mut relay) = relay_with("[limits]\ndrain-timeout = '50s'\n");
    for (number, broken) in ["[log]\nlog = 'debug'\nlevel = 1\n", "[log]\nlog = 'debug'\n[tls]\ncert = 'x'\n"]
        .into_iter()
        .enumerate()
    {
        files.write(&format!("{LISTEN}{broken}"));
        relay.signal(Signal::HUP);
        let said = |log: &str| log.matches("the configuration is not taken over: ").count() == number + 1;
        crate::relay::soon("what is wrong", || said(&relay.log()).then_some(()));
    }
    let log = relay.log();
    assert!(log.contains("relay.toml:5:1: ") && log.contains("--key ([tls] key in the file)"), "{log}");
    std::fs::remove_file(files.path().join("relay.toml")).unwrap();
    relay.signal(Signal::HUP);
    relay.logs("cannot read relay.toml");

    // It runs as before, and with a good file the change is seen.
    files.write(&format!("{LISTEN}[limits]\ndrain-timeout = '40s'\n"));
    relay.signal(Signal::HUP);
    relay.logs("the configuration was read again changed=\"drain-timeout\"");
    assert!(!relay.log().contains("DEBUG"));
    relay.signal(Signal::TERM);
    assert!(relay.ended().success());
}

#[test]
fn limits_change_while_it_runs() {
    let (files, mut relay) = relay_with("http = '127.0.0.1:0'\n");
    let address = relay.printed("http:").trim_start_matches("ws://").to_owned();
    let answer = || {
        let mut connection = TcpStream::connect(&address).unwrap();
        let request = "POST / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    assert_ne!(answer(), "HTTP/1.1 413");
    files.write(&format!(
        "{LISTEN}http = '127.0.0.1:0'\n[limits]\nmax-body-bytes = 8\nmax-connections = 2000000000\n\
         max-streams-per-link = 8\n[log]\nlog-format = 'json'\n"
    ));
    relay.signal(Signal::HUP);
    relay.logs(
        "the configuration was read again changed=\"max-connections, max-body-bytes, max-streams-per-link\"",
    );
    relay.logs("taken over only by a restart keys=\"log-format\"");
    relay.logs("the system allows fewer open files");
    assert_eq!(answer(), "HTTP/1.1 413");
    relay.signal(Signal::TERM);
    assert!(relay.ended().success());
}

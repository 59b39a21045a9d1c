//! What a service manager hears.

use crate::relay::{Files, Running};
use rustix::process::Signal;
use std::{os::unix::net::UnixDatagram, time::Duration};

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn new(files: &Files) -> Self {
        let socket = UnixDatagram::bind(files.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self(socket)
    }

    /// The next message with this line in it; others are passed over.
    #[track_caller]
    fn hears(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length =
                self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("never heard {line}: {error}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|one| one == line) {
                return message;
            }
        }
    }
}

#[test]
fn manager_hears_of_start_reload_life_and_end() {
    let files = Files::new("[listen]\nlisten = '127.0.0.1:0'\n[limits]\ndrain-timeout = '7m'\n");
    let manager = Manager::new(&files);
    let mut command = files.relay();
    command.env("NOTIFY_SOCKET", files.path().join("notify")).env("WATCHDOG_USEC", "100000");
    let mut relay = Running::start(&files, &mut command);
    manager.hears("READY=1");
    manager.hears("STATUS=agents: 0, sessions: 0");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    relay.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(time.unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=the configuration was read again"), "{ready}");

    files.write("broken");
    relay.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    assert!(ready.contains("wrong and was not taken over"), "{ready}");

    relay.signal(Signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    // Seven minutes, and a bit.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=435000000"), "{stopping}");
    assert!(relay.ended().success());
}

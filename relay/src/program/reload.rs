//! Reading the configuration again, on SIGHUP.

use super::{log::Log, service_manager};
use crate::{
    command_line::CommandLine,
    config::{Given, Live, Loaded, Problems, Reload, resolve},
    limits::descriptors,
    sockets::Passed,
};
use tracing::{error, info, warn};

/// What was read at the start. What was typed and the sockets stay as they are; only the file can be another.
pub(super) struct Read {
    pub(super) command_line: CommandLine,
    pub(super) passed: Passed,
    /// What the relay runs with.
    pub(super) running: Vec<Given>,
}

/// What it takes to read the configuration again.
pub(super) struct Reloading {
    pub(super) read: Read,
    pub(super) reload: Reload,
    pub(super) log: Log,
}

impl Read {
    async fn again(&self) -> Result<(Loaded, Live), Problems> {
        let (command_line, passed) = (self.command_line.clone(), self.passed);
        let reading = tokio::task::spawn_blocking(move || {
            let loaded = Loaded::new(&command_line)?.on(passed);
            let live = resolve::reload(&loaded)?;
            Ok((loaded, live))
        });
        // Only a panic has no result.
        reading.await.unwrap_or_else(|error| Err(crate::config::Problem::new(error).into()))
    }
}

impl Reloading {
    /// Takes over what can change while the relay runs, and says what cannot. A configuration with which the relay
    /// would not start changes nothing.
    pub(super) async fn again(&mut self) {
        service_manager::reloading();
        let status = match self.read.again().await {
            Ok((loaded, live)) => self.take_over(loaded.given, live),
            Err(problems) => {
                for line in problems.to_string().lines() {
                    error!("the configuration is not taken over: {line}");
                }
                // Files are opened anew all the same: who has moved a log away sends SIGHUP, too.
                self.reload.apply(self.reload.live());
                "the configuration is wrong and was not taken over; see the log".to_owned()
            }
        };
        service_manager::ready(&status);
    }

    fn take_over(&mut self, given: Vec<Given>, live: Live) -> String {
        let (now, later) = changes(&mut self.read.running, given);
        self.log.change(&live.log);
        if live.limits.connections != self.reload.live().limits.connections {
            descriptors::raise(&live.limits);
        }
        // Also when nothing else has changed: what a path leads to may have.
        self.reload.apply(live);
        if later.is_empty() {
            info!(changed = now, "the configuration was read again");
            return "the configuration was read again".to_owned();
        }
        info!(changed = now, "the configuration was read again");
        warn!(keys = later, "these settings have changed, but are taken over only by a restart");
        format!("the configuration was read again; a restart is needed for {later}")
    }
}

/// The keys that changed: those that apply at once, which are then what is running, and those that wait for a restart.
fn changes(running: &mut [Given], given: Vec<Given>) -> (String, String) {
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for (running, given) in running.iter_mut().zip(given) {
        let key = running.field.replace('_', "-");
        match (running.text == given.text, given.live) {
            (true, _) => {}
            (false, true) => {
                now.push(key);
                *running = given;
            }
            (false, false) => later.push(key),
        }
    }
    (now.join(", "), later.join(", "))
}

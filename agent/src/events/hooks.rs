//! Commands that the job's owner wants to be run when something happens.
//!
//! They run one after the other, in the order of the events, with `sh -c` (on Windows `cmd /c`) in the agent's working directory and with
//! the agent's environment, without its own secrets. The event is on stdin as a line of JSON, as in the event log;
//! what is asked for most is also in the environment. What they write, to stdout or stderr, goes to the agent's
//! stderr as it is: stdout is for what people copy.
//!
//! A hook that fails or takes too long is a line in the log and nothing more. When its time is over, its process group
//! is killed. What a hook that ended in time leaves in the background is left alone.

use crate::{
    events::{Event, TimedEvent},
    job::scrub::ScrubPatterns,
    platform::process::Program,
    platform::shells,
};
use converge_proto::Text;
use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::Stdio,
};
use tokio::io::AsyncWriteExt;
use tracing::{debug, warn};

/// Values in the environment are cut to this; stdin has all of it. The system would refuse 128 KiB.
const MAX_VALUE_BYTES: usize = 4096;

/// The commands, as typed.
#[derive(Clone, Debug, Default)]
pub struct HookCommands {
    /// Somebody has logged in.
    pub login: Option<OsString>,
    /// The session of somebody who had logged in has ended.
    pub logout: Option<OsString>,
    /// Users were warned that the agent will end.
    pub warning: Option<OsString>,
    /// The agent ends.
    pub exit: Option<OsString>,
}

/// The commands and where they run.
#[derive(Clone, Debug)]
pub struct Hooks {
    commands: HookCommands,
    working_dir: PathBuf,
}

impl Hooks {
    /// Runs `commands` in `working_dir`.
    pub fn new(commands: HookCommands, working_dir: PathBuf) -> Self {
        Self { commands, working_dir }
    }

    /// The option that set it, and the command for this event, if there is one.
    fn find(&self, event: &Event) -> Option<(&'static str, &OsStr)> {
        let (option, command) = match event {
            Event::Login { .. } => ("--on-login", &self.commands.login),
            Event::SessionFinished { user: Some(_), .. } => ("--on-logout", &self.commands.logout),
            Event::Warning { .. } => ("--on-warning", &self.commands.warning),
            Event::AgentFinished { .. } => ("--on-exit", &self.commands.exit),
            _ => return None,
        };
        Some((option, command.as_deref()?))
    }

    /// Whether something runs at this event.
    pub(crate) fn want(&self, event: &Event) -> bool {
        self.find(event).is_some()
    }

    /// Runs what is to be run at this event, and waits for it, until `time_is_over`.
    pub(crate) async fn run(&self, event: &TimedEvent, time_is_over: impl Future<Output = ()>) {
        let Some((hook, command)) = self.find(&event.event) else { return };
        debug!(hook, "runs");
        let mut child = match self.spawn(command, &event.event) {
            Ok(child) => child,
            Err(error) => return warn!(hook, %error, "the hook cannot be run"),
        };
        let (stdin, ..) = child.take_pipes();
        let running = async {
            let feeding = async {
                if let Some(mut stdin) = stdin {
                    // Most hooks do not read it.
                    let _ = stdin.write_all(event.to_json_line().as_bytes()).await;
                }
            };
            tokio::join!(feeding, child.wait()).1
        };
        let ended = tokio::select! {
            biased;
            ended = running => Some(ended),
            () = time_is_over => None,
        };
        match ended {
            Some(Ok(ending)) if ending.is_success() => {}
            Some(Ok(status)) => warn!(hook, %status, "the hook failed"),
            Some(Err(error)) => warn!(hook, %error, "the hook cannot be waited for"),
            None => {
                warn!(hook, "the hook takes too long and is killed");
                child.kill();
                // Nothing ignores this one; waiting is reaping.
                let _ = child.wait().await;
            }
        }
    }

    fn spawn(&self, command: &OsStr, event: &Event) -> io::Result<Program> {
        let environment = ScrubPatterns::default().scrub(std::env::vars_os().collect());
        let mut shell = shells::hook(command);
        shell
            .env_clear()
            .envs(environment)
            .envs(variables(event))
            .current_dir(&self.working_dir)
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            .stderr(io::stderr());
        Program::start(&mut shell)
    }
}

/// What is asked for most. Nothing in it can drive a terminal.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let mut variables = vec![("CONVERGE_EVENT", event.kind().to_owned())];
    let mut add = |name, value: &str| variables.push((name, Text::<MAX_VALUE_BYTES>::new(value).to_string()));
    match event {
        Event::Login { session, user } => {
            add("CONVERGE_SESSION", session);
            add("CONVERGE_USER", &user.to_string());
            add("CONVERGE_KEY", &user.key);
        }
        Event::SessionFinished { session, user, seconds, reason } => {
            add("CONVERGE_SESSION", session);
            if let Some(user) = user {
                add("CONVERGE_USER", &user.to_string());
                add("CONVERGE_KEY", &user.key);
            }
            add("CONVERGE_SECONDS", &format!("{seconds:.3}"));
            add("CONVERGE_REASON", reason);
        }
        Event::Warning { reason, remaining_seconds } => {
            add("CONVERGE_REASON", reason);
            add("CONVERGE_REMAINING_SECONDS", &remaining_seconds.to_string());
        }
        Event::AgentFinished { reason, status } => {
            add("CONVERGE_REASON", reason);
            add("CONVERGE_STATUS", &status.to_string());
        }
        _ => {}
    }
    variables
}

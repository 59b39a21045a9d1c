//! One program inside, from its command to its end.
//!
//! Signals go to the processes themselves, by a second `exec`: a tool that gets one passes it on to nobody (docker,
//! kubectl) or just ends. What a channel started is known by its mark (see [`script`]), and of that, a signal
//! goes to those that are in the process group in which the first one was born: a job of an interactive shell is the
//! shell's own affair, and a program that left for a session of its own wanted to be left alone. That is whom a
//! signal reaches here as well.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Place;
use super::ask::ask;
use super::script;
use super::tool::Input;
use crate::platform::process::Program;

/// How long a program that was hung up is waited for, as for one that runs here.
const HANG_UP_TIME: Duration = Duration::from_secs(2);
/// How long a program may take to appear inside after its tool was started; only then it is known to hear a hang-up.
const START_TIME: Duration = Duration::from_secs(10);
/// How long to wait before it is looked for again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a tool may take to pass on a signal.
const SIGNAL_TIME: Duration = Duration::from_secs(10);
/// How often what refuses to end is killed: every round finds what was born during the one before.
const KILL_ROUNDS: usize = 5;

/// What runs inside.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// A shell on a terminal or on pipes.
    Shell,
    /// A command line for a shell.
    Line(&'a OsStr),
    /// A program with its arguments, without a shell.
    Program(&'a [OsString]),
}

/// A program inside that may be started, signalled and ended.
#[derive(Debug)]
pub(crate) struct Inside {
    place: Place,
    channel: String,
    input: Input,
    script: String,
    words: Vec<OsString>,
}

/// Which processes of a channel a signal is for.
#[derive(Clone, Copy)]
enum Scope {
    Group,
    All,
}

impl Inside {
    /// A program that has not been started. `shells` are tried before those that are always tried.
    pub(crate) fn new<'a>(
        place: &Place,
        has_terminal: bool,
        variables: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
        what: &What<'_>,
        shells: impl IntoIterator<Item = &'a OsStr>,
    ) -> Self {
        let channel = format!("{:032x}", rand::random::<u128>());
        let mut words: Vec<OsString> = Vec::new();
        for (name, value) in variables.into_iter().filter(|(name, _)| is_variable(name)) {
            let mut word = name.to_owned();
            word.push("=");
            word.push(value);
            words.push(word);
        }
        let dir = place.0.config.dir.as_deref().map_or(OsStr::new(""), |dir| dir.as_os_str());
        words.extend([OsStr::new("."), OsStr::new(&channel), dir].map(OsStr::to_owned));
        let script = match what {
            What::Shell => {
                words.extend(["shell", ""].map(OsString::from));
                words.extend(shells.into_iter().map(OsStr::to_owned));
                script::shell()
            }
            What::Line(line) => {
                words.extend([OsString::from("command"), line.to_os_string()]);
                words.extend(shells.into_iter().map(OsStr::to_owned));
                script::shell()
            }
            What::Program(program) => {
                words.extend_from_slice(program);
                script::program()
            }
        };
        let input = if has_terminal { Input::Terminal } else { Input::Pipe };
        Self { place: place.clone(), channel, input, script, words }
    }

    /// Where it runs.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The tool's command line.
    pub(crate) fn command(&self) -> Command {
        self.place.exec(self.input, &self.script, self.words.iter().map(OsString::as_os_str))
    }

    /// Passes on a signal, by its name without SIG. Cancel-safe: it may or may not have arrived.
    pub(crate) async fn signal(&self, name: &str) {
        if !self.send(Scope::Group, &[name]).await {
            debug!(signal = name, "nobody in the container takes a signal");
        }
    }

    /// Ends a program whose session has ended. One that ignores it may live on, unless the agent itself is stopping.
    pub(crate) async fn hang_up(&self, tool: &mut Program, stopping: &CancellationToken) {
        let started = Instant::now();
        // It may not be inside yet, and killing the tool would not keep it from arriving.
        while started.elapsed() < START_TIME && !tool.has_ended() {
            // A stopped program would not notice the first one.
            if self.send(Scope::Group, &["HUP", "CONT"]).await {
                break;
            }
            let _ = timeout(LOOK_INTERVAL, tool.wait()).await;
        }
        if timeout(HANG_UP_TIME, tool.wait()).await.is_err() {
            debug!("a program in the container ignores that its session has ended");
        }
        if stopping.is_cancelled() {
            for _ in 0..KILL_ROUNDS {
                if !self.send(Scope::All, &["KILL"]).await {
                    break;
                }
            }
        }
        tool.kill();
        // Nothing ignores this one; waiting is reaping.
        let _ = tool.wait().await;
    }

    /// Whether there was somebody to take the signals.
    async fn send(&self, scope: Scope, signals: &[&str]) -> bool {
        let scope = match scope {
            Scope::Group => "group",
            Scope::All => "all",
        };
        let words = [self.channel.as_str(), scope].into_iter().chain(signals.iter().copied());
        let command = self.place.exec(Input::Nothing, script::SIGNAL, words.map(OsStr::new));
        match ask(command, None, SIGNAL_TIME).await {
            Ok(answer) => {
                debug!(?answer, "signals for programs in the container");
                answer.status.is_success()
            }
            Err(error) => {
                debug!(%error, "cannot signal programs in the container");
                // Asking again at once would not help.
                sleep(LOOK_INTERVAL).await;
                false
            }
        }
    }
}

/// Whether a shell can have a variable of this name.
fn is_variable(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

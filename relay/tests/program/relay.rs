//! The relay's program, in a directory of its own.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing here takes this long; a test that hangs fails instead.
const GUARD: Duration = Duration::from_mins(1);

/// Asks again and again, until there is an answer.
#[track_caller]
pub(crate) fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < GUARD, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory with a configuration file.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new(file: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(file);
        files
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Replaces the configuration file.
    pub(crate) fn write(&self, file: &str) {
        fs::write(self.path().join("relay.toml"), file).unwrap();
    }

    /// The relay's program with this file, and nothing of this machine's own settings.
    pub(crate) fn relay(&self) -> Command {
        let mut command = self.clean(env!("CARGO_BIN_EXE_converge-relay"));
        command.args(["--config", "relay.toml"]);
        // What a relay wants to be told that others can reach; tests of access take it away.
        command.envs([("CONVERGE_AGENT_AUTH", "none"), ("CONVERGE_CLIENT_AUTH", "none")]);
        command
    }

    /// Another program in the same place.
    pub(crate) fn clean(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CONVERGE_", "LISTEN_", "NOTIFY_", "WATCHDOG_"].iter().any(|start| text.starts_with(start)) {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }
}

/// A relay that runs. It is killed when the test is over.
pub(crate) struct Running {
    child: Child,
    directory: PathBuf,
}

impl Running {
    /// Starts this command, with what it writes in files.
    pub(crate) fn start(files: &Files, command: &mut Command) -> Self {
        let file = |name: &str| fs::File::create(files.path().join(name)).unwrap();
        Self::of(files, command.stdout(file("out")).stderr(file("log")))
    }

    /// Starts a command that writes to the files `out` and `log` by itself.
    pub(crate) fn of(files: &Files, command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap(), directory: files.path().to_owned() }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Waits for a line in the log.
    #[track_caller]
    pub(crate) fn logs(&mut self, words: &str) {
        self.says("log", |text| text.contains(words).then_some(()), words);
    }

    /// What follows this word on standard output.
    #[track_caller]
    pub(crate) fn printed(&mut self, word: &str) -> String {
        let line = |text: &str| {
            let mut whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            whole.find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned())
        };
        self.says("out", line, word)
    }

    #[track_caller]
    fn says<T>(&mut self, file: &str, ask: impl Fn(&str) -> Option<T>, what: &str) -> T {
        let path = self.directory.join(file);
        soon(what, || {
            let said = ask(&fs::read_to_string(&path).unwrap_or_default());
            if said.is_none() {
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "{what}: the relay has ended: {ended:?}\n{}", self.log());
            }
            said
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        soon("the end of the relay", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the relay logged:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

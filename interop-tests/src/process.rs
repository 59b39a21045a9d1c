//! A process that is ended with the test that started it, and whose output can be waited for.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Nothing that is waited for takes this long unless something is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A running process. Standard output can be waited for; standard error goes to a file, which a failure prints.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: String,
    log: PathBuf,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`, with its standard error in `directory/name.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, seen: String::new(), log, reader: Some(reader) })
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output for which `wanted` gives something.
    ///
    /// # Errors
    /// With everything the process has said, when it ends or time is over first.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen += &line;
                    self.seen.push('\n');
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not print {what}:\n{}", self.name, self.everything())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended before {what}:\n{}", self.name, self.everything())
                }
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("impossible ID")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it has not within [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} does not end:\n{}", self.name, self.everything());
            }
            // The system offers no wait with a time limit; this is the loop that makes one.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the process has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory the process has had, in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    fn everything(&self) -> String {
        format!("--- {} said:\n{}--- and logged:\n{}", self.name, self.seen, self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            // Children of the process may still hold its standard output; they are not waited for.
            drop(reader);
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.everything());
        }
    }
}

/// What a finished command said, with a failure that shows all of it.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end with `input` on standard input.
///
/// # Errors
/// When it cannot be run, or does not end within [`PATIENCE`]; it is killed then.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            let read = from.map(|mut from| from.read_to_end(&mut all));
            drop(read);
            all
        })
    };
    let stdout = read(stdout.map(|out| Box::new(out) as _));
    let stderr = read(stderr.map(|err| Box::new(err) as _));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin.take() {
                // A program that does not want its input closes it.
                let _ = stdin.write_all(input);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                let stderr = stderr.join().unwrap_or_default();
                bail!("{command:?} does not end; it said:\n{}", String::from_utf8_lossy(&stderr));
            }
            // As in `Process::wait`.
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = stdout.join().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
        Ok(Output { status, stdout, stderr })
    })
}

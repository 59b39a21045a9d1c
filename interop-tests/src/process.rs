//! A process that is ended with the test that started it, and whose output can be waited for.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
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
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: String,
    log: PathBuf,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` without input, with its standard error behind what is in `directory/name.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        Self::spawn(name, command.stdin(Stdio::null()), directory)
    }

    /// The same, with input by [`write_line`](Self::write_line).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with_input(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        Self::spawn(name, command.stdin(Stdio::piped()), directory)
    }

    fn spawn(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let stderr = OpenOptions::new().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("cannot write {}", log.display()))?;
        let command = command.stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            lines,
            seen: String::new(),
            log,
            reader: Some(reader),
        })
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

    /// Writes a line to standard input.
    ///
    /// # Errors
    /// When the process takes none.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().with_context(|| format!("{} has no input", self.name))?;
        writeln!(input, "{line}").with_context(|| format!("{} takes no input", self.name))
    }

    /// Ends standard input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        send_signal(self.id(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it has not within [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let ended = eventually("an end", || self.child.try_wait().ok().flatten());
        ended.with_context(|| self.everything())
    }

    /// How the process has ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot look after {}", self.name))
    }

    /// What the process has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until what the process has written to standard error satisfies `wanted`.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        eventually(what, || wanted(&self.log()).then_some(())).with_context(|| self.everything())
    }

    /// The most memory the process has had, in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmHWM:")
    }

    /// What it has resident now.
    ///
    /// # Errors
    /// When it has gone.
    pub fn resident_memory_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmRSS:")
    }

    /// The time that it has kept processors busy, in the kernel too.
    ///
    /// # Errors
    /// When it has gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.id())
    }

    /// The same with the processes that it has started and that are still there, and theirs.
    ///
    /// # Errors
    /// When one of them goes meanwhile.
    pub fn cpu_time_with_children(&self) -> Result<Duration> {
        with_children(self.id())?.into_iter().map(cpu_time).sum()
    }

    fn memory_bytes(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
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
    }
}

/// Sends a signal to a process of which only the ID is known.
///
/// # Errors
/// When the process is gone.
pub fn send_signal(process: u32, signal: rustix::process::Signal) -> Result<()> {
    let pid =
        i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).context("impossible ID")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn cpu_time(process: u32) -> Result<Duration> {
    /// In which Linux tells it to programs, on every machine.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name is in parentheses, and may have any character in it.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields = fields.split_whitespace().skip(11).take(2);
    let ticks = fields.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// A process, those that its threads have started, and so on.
fn with_children(process: u32) -> Result<Vec<u32>> {
    let mut all = vec![process];
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        for child in fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
            all.extend(with_children(child.parse()?)?);
        }
    }
    Ok(all)
}

/// The processes that have this in their environment, such as `NAME=value`.
///
/// # Errors
/// When the system does not tell.
pub fn processes_with(assignment: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has just ended, or that is somebody else's.
        let Ok(environment) = fs::read(format!("/proc/{process}/environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == assignment.as_bytes()) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Whether a process runs. One that has ended and was not reaped by its parent does not.
pub fn is_running(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    // "PID (NAME) STATE …"; the name may contain anything.
    status.is_ok_and(|status| status.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z')))
}

/// A process that is nobody's child any more, killed at the end of the test.
#[derive(Debug)]
pub struct Leftover(pub u32);

impl Drop for Leftover {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = send_signal(self.0, rustix::process::Signal::KILL);
    }
}

/// Waits until `look` finds something. For what the system offers no wait with a time limit for: this is the loop
/// that makes one.
///
/// # Errors
/// When there is nothing within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
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

    /// This output, when the command ended with status 0.
    ///
    /// # Errors
    /// With what the command said, when it did not.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "{}; it said:\n{}{}", self.status, self.text(), self.stderr);
        Ok(self)
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
            // As in `eventually`.
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = stdout.join().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
        Ok(Output { status, stdout, stderr })
    })
}

//! Programs in job objects.
//!
//! Windows has no signals and no process groups to kill. A program and all that it starts are in a job object of their
//! own, which is ended as a whole; and all of them are in the agent's job object, which ends with the agent, however
//! that ends. There is a moment between the start of a program and its coming into its own job; what it starts in that
//! moment is in the agent's job alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::io::RawHandle;
use std::path::Path;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tracing::{debug, warn};
use win32job::{ExtendedLimitInfo, Job, JobError};

use super::Ending;
use crate::platform::shells;
use crate::platform::signals::Signal;

/// A console of its own without a window: what happens in the agent's console is not for users' programs.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// `ERROR_BAD_EXE_FORMAT`.
const BAD_EXE_FORMAT: i32 = 193;

/// The status of a program whose own cannot be found out.
const UNKNOWN: i32 = -1;

/// Lets nothing that is started from now on outlive this process.
pub(crate) fn keep_children() {
    let kept = || {
        let job = Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close())?;
        job.assign_current_process()?;
        Ok::<_, JobError>(job)
    };
    match kept() {
        // The system closes it when this process has ended; closing it earlier would end this process.
        Ok(job) => _ = job.into_handle(),
        Err(error) => {
            warn!(%error, "what users start may outlive the agent: it cannot be put in a job object")
        }
    }
}

/// A program that was started. Dropping it leaves it alone.
#[derive(Debug)]
pub(crate) struct Program {
    process: Process,
    /// `None` when there is none, or when it was ended.
    job: Option<Job>,
    ended_by: Option<Signal>,
}

#[derive(Debug)]
enum Process {
    Piped(Child),
    /// On a console: the status comes from a thread that waits for it.
    OnConsole {
        id: Option<u32>,
        status: watch::Receiver<Option<u32>>,
    },
}

impl Program {
    /// Starts a program with a console of its own, which nobody sees.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_beside(command.creation_flags(CREATE_NO_WINDOW))
    }

    /// Starts a program in the agent's own console.
    pub(crate) fn start_beside(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let job = child.raw_handle().and_then(job_of);
        Ok(Self { process: Process::Piped(child), job, ended_by: None })
    }

    /// A program that was started on a console of its own.
    pub(in crate::platform) fn on_console(
        mut child: Box<dyn portable_pty::Child + Send + Sync>,
    ) -> io::Result<Self> {
        let (job, id) = (child.as_raw_handle().and_then(job_of), child.process_id());
        let (ended, status) = watch::channel(None);
        let mut killer = child.clone_killer();
        let waiting = std::thread::Builder::new().name("console-program".to_owned()).spawn(move || {
            ended.send_replace(Some(
                child.wait().map_or(UNKNOWN.cast_unsigned(), |status| status.exit_code()),
            ));
        });
        if let Err(error) = waiting {
            // It ends with its console in any case.
            let _ = killer.kill();
            return Err(error);
        }
        Ok(Self { process: Process::OnConsole { id, status }, job, ended_by: None })
    }

    /// Those of its pipes that it has and that were not taken yet.
    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        match &mut self.process {
            Process::Piped(child) => (child.stdin.take(), child.stdout.take(), child.stderr.take()),
            Process::OnConsole { .. } => (None, None, None),
        }
    }

    /// Its number; `None` when it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        match &self.process {
            Process::Piped(child) => child.id(),
            Process::OnConsole { id, .. } => *id,
        }
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> io::Result<Ending> {
        let status = match &mut self.process {
            Process::Piped(child) => child.wait().await?.code(),
            Process::OnConsole { status, .. } => {
                // An error would be a thread that ended without a word.
                let status = status.wait_for(Option::is_some).await.ok().and_then(|status| *status);
                status.map(u32::cast_signed)
            }
        };
        Ok(match self.ended_by {
            Some(signal) => Ending::Signal { number: signal.as_raw(), core_dumped: false },
            None => Ending::Status(status.unwrap_or(UNKNOWN)),
        })
    }

    /// Whether it has ended, as far as that can be found out.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Process::Piped(child) => !child.try_wait().is_ok_and(|status| status.is_none()),
            Process::OnConsole { status, .. } => status.borrow().is_some(),
        }
    }

    /// Ends it and all that it has started: what every signal with a name in SSH does to a program that does not
    /// handle it, and no program of Windows does.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.has_ended() {
            return;
        }
        self.ended_by = Some(signal);
        match (self.job.take(), &mut self.process) {
            (Some(job), _) => {
                let limits = job.set_extended_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close());
                if let Err(error) = limits {
                    debug!(%error, "cannot end the job object of a program");
                }
                // Closing it is what ends them.
                drop(job);
            }
            (None, Process::Piped(child)) => {
                if let Err(error) = child.start_kill() {
                    debug!(%error, "cannot end a program");
                }
            }
            // It ends with its console.
            (None, Process::OnConsole { .. }) => {}
        }
    }

    /// There is no asking here: it is ended.
    pub(crate) fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Ends it and all that it has started.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Puts a process that was just started into a job object of its own.
fn job_of(process: RawHandle) -> Option<Job> {
    let put = || {
        let job = Job::create()?;
        job.assign_process(process as isize)?;
        Ok::<_, JobError>(job)
    };
    // A program that has ended already cannot be put anywhere.
    put().inspect_err(|error| debug!(%error, "a program has no job object of its own")).ok()
}

/// Runs a command to its end, as nothing here can become another program. Returns its status.
pub(crate) fn become_command(command: &mut std::process::Command) -> io::Result<u8> {
    let code = command.status()?.code().unwrap_or(UNKNOWN);
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The name under which the system finds a program of this name: its own search knows no scripts.
pub(crate) fn program_name(name: &OsStr) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_bare = Path::new(name).components().count() == 1 && Path::new(name).extension().is_none();
    let found = is_bare.then(|| {
        let candidates = std::env::split_paths(&path).flat_map(|directory| {
            shells::PROGRAM_EXTENSIONS.iter().map(move |extension| {
                let mut file = name.to_owned();
                file.push(extension);
                directory.join(file)
            })
        });
        candidates.into_iter().find(|candidate| candidate.is_file())
    });
    found.flatten().map_or_else(|| name.to_owned(), Into::into)
}

/// In words, why the system says that a file is there and is no program; `None` when it says something else.
pub(crate) fn cannot_be_run(error: &io::Error) -> Option<&'static str> {
    (error.raw_os_error() == Some(BAD_EXE_FORMAT)).then_some("not a program of this system")
}

//! Where users' programs run when that is not here: in a container beside the job, or in a pod.
//!
//! Everything goes through the command line of the tool that owns the container (docker, podman, nerdctl, kubectl), so
//! it works wherever that command works: with a remote daemon, without root, in a cluster. The container needs nothing
//! but `sh`; the container's own limits (user, root file system, devices) are kept by the container and not by us.
//!
//! - **Programs** are started by `TOOL exec … sh -c SCRIPT`: the script sets the variables, goes to the directory, finds
//!   a shell and becomes it. The tools' own options for that are not used, since they do not all have them.
//! - **Ending them.** When a tool is killed, what it started inside goes on. So every program carries a mark in its
//!   environment, which its children inherit, and a second `exec` finds and signals them by it; see `program`.
//! - **sftp** is the container's own `sftp-server`, or this agent's program, copied in for the time of the session. It is
//!   never served from here over the container's files: whoever follows a symbolic link from outside arrives outside.
//! - **Waiting.** A container that does not run yet is waited for when somebody asks for a program in it.

use crate::platform::machine::own_program;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod ask;
mod name;
pub(crate) mod program;
mod ready;
mod script;
mod sftp;
mod tool;

pub use name::{ContainerName, NotAName, PodName};
pub use tool::{NotATool, Tool, ToolKind};

use tool::Input;

/// How long a container is waited for unless something else is said.
pub const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// A container or a pod that programs run in; cheap to clone.
#[derive(Clone, Debug)]
pub struct Place(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: PlaceConfig,
    /// The tool that has been seen to know the container.
    found: Mutex<Option<Tool>>,
}

/// What a [`Place`] needs.
#[derive(Clone, Debug)]
pub struct PlaceConfig {
    /// Where programs run.
    pub target: Target,
    /// Tools to ask, in this order; the first that knows the container is used from then on.
    pub tools: Vec<Tool>,
    /// Where programs start and relative file names of sftp begin, inside. Default: where the container says.
    pub dir: Option<PathBuf>,
    /// How long a container that does not run is waited for. Zero: not at all.
    pub wait: Duration,
    /// The program that is copied into containers that have no `sftp-server`. Default: this process's own.
    pub sftp_program: Option<PathBuf>,
}

impl PlaceConfig {
    /// A configuration with defaults for everything that has one.
    pub fn new(target: Target, tools: Vec<Tool>) -> Self {
        Self { target, tools, dir: None, wait: DEFAULT_WAIT, sftp_program: own_program() }
    }
}

/// What programs run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A container of docker, podman or nerdctl.
    Container(ContainerName),
    /// A container of a pod.
    Pod(PodName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "the container {name}"),
            Self::Pod(name) => write!(f, "the pod {name}"),
        }
    }
}

/// Why a [`PlaceConfig`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is nothing to reach it with.
    #[error("no tool to reach {0} with")]
    NoTool(Target),
    /// Nobody could say which directory is meant.
    #[error("the directory inside the container is not an absolute path: {}", .0.display())]
    Dir(PathBuf),
}

impl Place {
    /// Checks the configuration; asks no tool.
    ///
    /// # Errors
    /// When there is no tool, or the directory is a relative one.
    pub fn new(config: PlaceConfig) -> Result<Self, PlaceError> {
        if config.tools.is_empty() {
            return Err(PlaceError::NoTool(config.target));
        }
        if let Some(dir) = config.dir.as_ref().filter(|dir| !is_absolute(dir)) {
            return Err(PlaceError::Dir(dir.clone()));
        }
        Ok(Self(Arc::new(Inner { config, found: Mutex::default() })))
    }

    fn tool(&self) -> Option<Tool> {
        let found = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().or(self.0.config.tools.first()).cloned()
    }

    fn set_tool(&self, tool: &Tool) {
        *self.0.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(tool.clone());
    }

    /// The command that runs `script` inside, with these arguments.
    fn exec<'a>(
        &self,
        input: Input,
        script: &str,
        words: impl IntoIterator<Item = &'a OsStr>,
    ) -> tokio::process::Command {
        // There always is one, as was checked; without it, the name of the program in the error says what is missing.
        let tool = self.tool().unwrap_or_else(|| Tool::new(ToolKind::Docker, "docker"));
        let mut command = tool.exec(&self.0.config.target, input);
        command.args(["sh", "-c", script, "sh"]).args(words);
        command
    }
}

/// Inside, paths are those of Unix systems, whatever this one has.
fn is_absolute(dir: &Path) -> bool {
    dir.as_os_str().as_encoded_bytes().starts_with(b"/")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.target.fmt(f)
    }
}

//! An agent after which nothing is left: no process and no file.

use anyhow::{Result, ensure};
use converge_interop_tests::{
    Agent, Setup,
    process::{eventually, processes_with},
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::Command,
};

/// A running agent, and what was there before it.
pub(super) struct Tidy {
    agent: Agent,
    job: PathBuf,
    before: BTreeSet<OsString>,
    temporary: PathBuf,
}

impl Tidy {
    /// Starts an agent with a temporary folder of its own.
    pub(super) fn start(setup: &Setup, command: &mut Command) -> Result<Self> {
        let job = command.get_current_dir().unwrap_or(setup.path()).to_owned();
        let before = entries(&job)?;
        let temporary = tempfile::Builder::new().prefix("tmp-").tempdir_in(setup.path())?.keep();
        let agent = Agent::start_as("tidy-agent", command.env("TMPDIR", &temporary), setup.path())?;
        Ok(Self { agent, job, before, temporary })
    }

    /// Waits for the end, and looks for what is left.
    pub(super) fn ends_with(&mut self, status: i32) -> Result<()> {
        let ended = self.agent.process.wait()?;
        ensure!(ended.code() == Some(status), "{ended}, and not {status}:\n{}", self.agent.process.log());
        let left = entries(&self.temporary)?;
        ensure!(left.is_empty(), "left in the temporary folder: {left:?}");
        let after = entries(&self.job)?;
        ensure!(after == self.before, "the job's directory was {:?} and is {after:?}", self.before);
        let id = format!("CONVERGE_ID={}", self.agent.id);
        // The agent has waited for its children, which may have left some to the system.
        eventually("the end of all that users ran", || processes_with(&id).ok()?.is_empty().then_some(()))
    }

    /// What the agent has logged.
    pub(super) fn log(&self) -> String {
        self.agent.process.log()
    }
}

impl Deref for Tidy {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl DerefMut for Tidy {
    fn deref_mut(&mut self) -> &mut Agent {
        &mut self.agent
    }
}

fn entries(directory: &Path) -> Result<BTreeSet<OsString>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

//! Who may log in.

use crate::{AgentDir, authorized_keys::AuthorizedKeys};
use anyhow::bail;
use clap::Args;
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Who may log in.
#[derive(Args, Debug)]
pub struct UserArguments {
    /// Who may log in: files in OpenSSH's authorized_keys format, read afresh at every login
    #[arg(long, env = "CONVERGE_AUTHORIZED_KEYS", value_name = "FILE", default_value = ".authorized_keys")]
    pub authorized_keys: Vec<PathBuf>,
}

impl UserArguments {
    /// The files, or the reason why nobody could log in.
    pub(super) fn authorized_keys(
        &self,
        directory: &AgentDir,
        working_dir: &Path,
    ) -> anyhow::Result<AuthorizedKeys> {
        // Files are read again at every login, and the working directory may be gone by then.
        let mut files: Vec<_> = self.authorized_keys.iter().map(|file| working_dir.join(file)).collect();
        let in_directory = directory.path().join(".authorized_keys");
        // A directory that was made just now can only be filled later; nobody is to be sent there in vain.
        let to_report = files.iter().chain((!directory.is_temporary()).then_some(&in_directory));
        let report = AuthorizedKeys::new(to_report).load_report(SystemTime::now());
        files.push(in_directory);
        for problem in report.problems() {
            tracing::debug!(%problem, "authorized keys");
        }
        if report.usable() == 0 {
            bail!("{report}");
        }
        Ok(AuthorizedKeys::new(files))
    }
}

//! File transfer inside: which server, and how it gets there.

use std::ffi::OsString;
use std::fs::File;
use std::time::Duration;

use tracing::debug;

use super::ask::ask;
use super::program::{Inside, What};
use super::tool::Input;
use super::{Place, script};

/// How long it may take to look for a server inside.
const FIND_TIME: Duration = Duration::from_secs(20);
/// How long copying the program in may take.
const COPY_TIME: Duration = Duration::from_mins(2);

/// Why there is no file transfer.
#[derive(Debug, thiserror::Error)]
#[error(
    "no sftp in {place}: it has no sftp-server, and this agent's own program cannot be used there ({reason}); \
     install openssh-sftp-server in it, or copy through a command: ssh ADDRESS 'cat > FILE' < FILE"
)]
pub(crate) struct NoSftp {
    place: String,
    reason: String,
}

impl Place {
    /// A server for one session, found inside or copied there.
    ///
    /// Dropping the future while it copies can leave a file behind in the container's `/tmp`, which is then removed
    /// with the container.
    pub(crate) async fn sftp(&self, read_only: bool) -> Result<Inside, NoSftp> {
        let no_sftp = |reason: String| NoSftp { place: self.to_string(), reason };
        let found = ask(self.exec(Input::Nothing, script::FIND_SFTP, []), None, FIND_TIME).await;
        let found = found.map_err(|error| no_sftp(error.to_string()))?;
        if !found.status.is_success() {
            return Err(no_sftp(found.reason()));
        }
        let mut words: Vec<OsString> = Vec::new();
        if let Some(server) = found.stdout.lines().next() {
            words.push(server.into());
            words.extend(read_only.then(|| "-R".into()));
        } else {
            let program = self.copy_program().await.map_err(no_sftp)?;
            words.extend([program.clone(), "sftp-server".into(), "--remove".into(), program]);
            words.extend(read_only.then(|| "--read-only".into()));
        }
        debug!(?words, "sftp server in the container");
        Ok(Inside::new(self, false, [], &What::Program(&words), []))
    }

    /// Where this agent's program is inside, after it has been copied there.
    async fn copy_program(&self) -> Result<OsString, String> {
        let program = self.0.config.sftp_program.as_deref().ok_or("it cannot be found")?;
        let file = File::open(program).map_err(|error| format!("{}: {error}", program.display()))?;
        let name = format!(".converge-sftp-{:032x}", rand::random::<u128>());
        let command = self.exec(Input::Pipe, script::TAKE, [name.as_ref()]);
        let answer = ask(command, Some(file), COPY_TIME).await.map_err(|error| error.to_string())?;
        match (answer.status.status(), answer.stdout.lines().next()) {
            (Some(0), Some(path)) => Ok(path.into()),
            (Some(1), _) => Err("there is no directory that it can be written to".to_owned()),
            (Some(2), _) => Err(format!("it does not run there: {}", answer.reason())),
            _ => Err(answer.reason()),
        }
    }
}

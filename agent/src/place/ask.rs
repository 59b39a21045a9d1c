//! One question to a tool: a command that runs shortly and says something.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::platform::process::{Ending, Program};

/// How much of an answer is read; of what is longer, this beginning.
const MAX_ANSWER_BYTES: u64 = 4 * 1024;

/// What a tool said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Ending,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Answer {
    /// The reason that it gave, in one line.
    pub(super) fn reason(&self) -> String {
        let said: Vec<_> = self.stderr.split_whitespace().collect();
        if said.is_empty() { self.status.to_string() } else { said.join(" ") }
    }
}

/// Runs a command, which is killed when it takes longer than `limit` or when nobody waits for the answer any more.
pub(super) async fn ask(mut command: Command, input: Option<File>, limit: Duration) -> io::Result<Answer> {
    command
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = Program::start(&mut command)?;
    let (_, stdout, stderr) = child.take_pipes();
    let answering = async {
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
        Ok(Answer { status: status?, stdout: stdout?, stderr: stderr? })
    };
    timeout(limit, answering).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}

/// Reads all, so that the command is not stopped, and keeps the beginning.
async fn read(source: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut source) = source else { return Ok(String::new()) };
    let mut kept = Vec::new();
    (&mut source).take(MAX_ANSWER_BYTES).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

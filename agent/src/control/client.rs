//! Asking an agent, from inside a session.

use super::{Answer, Envelope, MAX_LINE_BYTES, Request};
use crate::platform::control_socket;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// An agent answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the agent whose directory this is. Blocking.
///
/// # Errors
/// [`ControlError`] when there is no agent, or it does not answer, or it says no.
pub fn request(directory: &Path, session: Option<String>, request: Request) -> Result<Answer, ControlError> {
    let place = || directory.to_owned();
    let answer = ask(directory, &Envelope { session, request }).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoAgent { directory: place() }
        }
        _ => ControlError::Failed { directory: place(), source },
    })?;
    match answer {
        Answer::Error { message } => Err(ControlError::Refused(message)),
        answer => Ok(answer),
    }
}

fn ask(directory: &Path, envelope: &Envelope) -> io::Result<Answer> {
    let mut line = serde_json::to_vec(envelope)?;
    line.push(b'\n');
    let answer = control_socket::exchange(directory, &line, MAX_LINE_BYTES, TIMEOUT)?;
    if answer.is_empty() {
        return Err(io::Error::other("it hung up without an answer"));
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no agent runs in {}; this works inside a session, or with --dir and the agent's directory", directory.display())]
    NoAgent {
        /// The agent directory.
        directory: PathBuf,
    },
    /// It broke on the way.
    #[error("cannot ask the agent in {}: {source}", directory.display())]
    Failed {
        /// The agent directory.
        directory: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The agent says no.
    #[error("{0}")]
    Refused(String),
}

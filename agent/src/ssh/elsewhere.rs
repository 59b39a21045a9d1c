//! Programs of channels that run in a container.

use std::ffi::OsStr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::channel::Surroundings;
use super::environment::{self, ClientEnvironment, Particulars};
use super::output::{ChannelOutput, Stream};
use super::process::Launch;
use crate::life::Short;
use crate::place::Place;
use crate::place::program::{Inside, What};

/// Variables that would speak of this machine and not of the container.
const ONLY_HERE: [&str; 4] = ["SHELL", "PWD", "SSH_TTY", "SSH_AUTH_SOCK"];

/// A shell or a command line in the container, with what the session, the client and the key say about its environment
/// and nothing of the job's own.
pub(super) fn launch(
    place: &Place,
    command: Option<&OsStr>,
    original_command: Option<&OsStr>,
    client: &ClientEnvironment,
    terminal: Option<(&str, &OsStr)>,
    surroundings: &Surroundings<'_>,
) -> Launch {
    let Surroundings { shared, context, key, .. } = *surroundings;
    let environment = environment::build(
        &[],
        context,
        &Particulars {
            client,
            key: &key.environment,
            shell: OsStr::new(""),
            working_dir: OsStr::new(""),
            terminal,
            original_command,
            agent_socket: None,
        },
    );
    let variables = environment
        .iter()
        .filter(|(name, _)| !ONLY_HERE.iter().any(|only_here| name == only_here))
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    let what = command.map_or(What::Shell, What::Line);
    let shells = shared.shells.iter().map(|shell| shell.as_os_str());
    let inside = Inside::new(place, terminal.is_some(), variables, &what, shells);
    Launch { command: command.map(OsStr::to_owned), ..in_container(inside, context.stopping.clone()) }
}

fn in_container(inside: Inside, stopping: CancellationToken) -> Launch {
    Launch {
        shell: PathBuf::new(),
        command: None,
        environment: Vec::new(),
        working_dir: PathBuf::new(),
        stopping,
        inside: Some(inside),
    }
}

/// A server for file transfer in the container. `None`: the channel was closed meanwhile; an error is for the user.
pub(super) async fn sftp(
    place: &Place,
    read_only: bool,
    stopping: CancellationToken,
    output: &ChannelOutput,
    cancel: &CancellationToken,
) -> Option<Result<Launch, String>> {
    if let Err(text) = wait_for(place, false, output, cancel).await? {
        return Some(Err(text));
    }
    let server = cancel.run_until_cancelled(place.sftp(read_only)).await?;
    Some(server.map(|inside| in_container(inside, stopping)).map_err(|error| line(&error)))
}

/// Waits until the container that something is to run in runs, if it is one. `None`: the channel was closed meanwhile;
/// an error is for the user.
pub(super) async fn arrive(
    launch: &Launch,
    has_terminal: bool,
    output: &ChannelOutput,
    cancel: &CancellationToken,
) -> Option<Result<(), String>> {
    match &launch.inside {
        Some(inside) => wait_for(inside.place(), has_terminal, output, cancel).await,
        None => Some(Ok(())),
    }
}

/// Waits until a container runs, and tells the user that it does.
async fn wait_for(
    place: &Place,
    has_terminal: bool,
    output: &ChannelOutput,
    cancel: &CancellationToken,
) -> Option<Result<(), String>> {
    let stream = if has_terminal { Stream::Stdout } else { Stream::Stderr };
    let arriving = async {
        match place.check().await {
            Ok(()) => return Ok(()),
            Err(error) if place.wait_time().is_zero() => return Err(line(&error)),
            Err(_) => {}
        }
        let wait = Short(place.wait_time());
        let text = line(&format_args!("waiting up to {wait} for {place} to run"));
        // Fails when the connection has ended, and then `cancel` fires.
        let _ = output.send(stream, text).await;
        place.until_up().await.map_err(|error| line(&error))
    };
    cancel.run_until_cancelled(arriving).await
}

fn line(text: &impl std::fmt::Display) -> String {
    format!("converge-agent: {text}\r\n")
}

//! The `sftp` subsystem.

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::exit::Exit;
use super::flow::InputReader;
use super::output::ChannelOutput;
use crate::sftp::{self, SftpConfig};

/// Serves SFTP on a channel until the client ends it. `None`: the channel was closed, and there is nobody to tell.
pub(super) async fn run(
    config: SftpConfig,
    input: InputReader,
    output: &ChannelOutput,
    cancel: &CancellationToken,
) -> Option<Exit> {
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => return None,
        result = sftp::serve(input, output.stdout(), config) => result,
    };
    match result {
        Ok(()) => Some(Exit::Status(0)),
        Err(error) => {
            debug!(%error, "sftp ended");
            Some(Exit::Status(1))
        }
    }
}

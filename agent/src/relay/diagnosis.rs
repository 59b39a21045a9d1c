//! Why the relay cannot be reached, for the log of a job on a closed network.

use crate::relay::announce::Announcement;
use converge_proto::RelayUrl;
use converge_transport::{
    DialOptions,
    probe::{Report, probe},
};
use std::time::Duration;
use tokio::{sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// An agent that is not registered by then looks for what is in its way. Where all is well it takes a tenth of it.
const SLOW_START: Duration = Duration::from_secs(3);

/// Watches an agent that begins to dial. If its first announcement takes long, the relay is probed, once, and the report
/// sent to `reports`; the agent goes on dialing meanwhile.
pub(crate) fn watch_start(
    relay: RelayUrl,
    options: DialOptions,
    mut announcements: watch::Receiver<Option<Announcement>>,
    reports: watch::Sender<Option<Report>>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        if timeout(SLOW_START, announcements.changed()).await.is_ok() {
            return;
        }
        match probe(&relay, &options).await {
            // Nobody may be listening.
            Ok(report) => drop(reports.send_replace(Some(report))),
            Err(error) => debug!(%error, "cannot find out why there is no link"),
        }
    }))
}

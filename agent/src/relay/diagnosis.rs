//! Why the relay cannot be reached, for the log of a job on a closed network.

use crate::relay::announce::Announcement;
use converge_proto::RelayUrls;
use converge_transport::{
    DialOptions,
    probe::{Report, probe},
};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::{sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// An agent that is not registered by then looks for what is in its way. Where all is well it takes a tenth of it.
const SLOW_START: Duration = Duration::from_secs(3);

/// Watches an agent that begins to dial. If its first announcement takes long, the relays are probed, once, and what was found
/// is sent to `reports`, in the order in which they are named; the agent goes on dialing meanwhile.
pub(crate) fn watch_start(
    relays: RelayUrls,
    options: DialOptions,
    mut announcements: watch::Receiver<Option<Announcement>>,
    reports: watch::Sender<Vec<Report>>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        if timeout(SLOW_START, announcements.changed()).await.is_ok() {
            return;
        }
        // Side by side, so that many take no longer than one.
        let probed = join_all(relays.iter().map(|relay| probe(relay, &options))).await;
        let found = probed.into_iter().filter_map(|report| {
            report.inspect_err(|error| debug!(%error, "cannot find out why there is no link")).ok()
        });
        // Nobody may be listening.
        reports.send_replace(found.collect());
    }))
}

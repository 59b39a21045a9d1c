//! What can change while a relay runs.

use crate::{access::AccessSettings, command_line::values::LogFilter, limits::Limits};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// The part of the configuration that is taken over from the file without a restart.
///
/// How to use it: put what may change here, resolve it in `resolve::live`, and name its flags
/// under `live` in the group's `group!`. A task then asks `shared.live` **each time** it needs the value
/// (`shared.live.borrow().drain_timeout`: short, and not across an `await`), or, where something must be done on a
/// change, clones the receiver and waits for `changed()`. What is not asked again does not change.
#[derive(Clone, Debug)]
pub struct Live {
    /// How long sessions may go on after the relay was told to stop.
    pub drain_timeout: Duration,
    /// Agents per second that a relay of several hands to the others when it stops; 0: all at once.
    pub drain_rate: u32,
    /// What is logged.
    pub log: LogFilter,
    /// Who may use the relay.
    pub access: Arc<AccessSettings>,
    /// What peers are allowed. Who is here already stays when it becomes less.
    pub limits: Arc<Limits>,
}

impl Live {
    /// How long sessions may go on after the relay was told to stop, unless said otherwise.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
    /// Agents per second that a relay of several hands to the others when it stops, unless said otherwise: half of what one
    /// core takes in (docs/scaling.md).
    pub const DRAIN_RATE: u32 = 500;
}

impl Default for Live {
    fn default() -> Self {
        Self {
            drain_timeout: Self::DRAIN_TIMEOUT,
            drain_rate: Self::DRAIN_RATE,
            log: LogFilter::default(),
            access: Arc::default(),
            limits: Arc::default(),
        }
    }
}

/// Gives a running relay a new [`Live`].
#[derive(Clone, Debug)]
pub struct Reload(Arc<watch::Sender<Live>>);

impl Reload {
    /// With what the relay starts with, and what its tasks ask.
    pub(crate) fn new(live: Live) -> (Self, watch::Receiver<Live>) {
        let (sender, receiver) = watch::channel(live);
        (Self(Arc::new(sender)), receiver)
    }

    /// What the relay runs with now.
    pub fn live(&self) -> Live {
        self.0.borrow().clone()
    }

    /// Every task sees it from now on.
    pub fn apply(&self, live: Live) {
        self.0.send_replace(live);
    }
}

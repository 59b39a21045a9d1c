//! What every task of a relay shares.

use crate::{
    access::Access,
    cluster::Cluster,
    config::Live,
    directory::Directory,
    downloads::{Downloads, Installer},
    http::{
        api::Api,
        pages::{InstallLines, Pages, PagesSettings},
    },
    limits::{self, Gate},
    metrics::Metrics,
    registry::Registry,
    tls::Tls,
};
use converge_proto::{RelayNumber, RelayUrl};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// One per relay.
pub(crate) struct Shared {
    pub(crate) registry: Arc<dyn Registry>,
    /// The other relays, where there are some.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Who is here, for everybody who shows or counts them.
    pub(crate) directory: Directory,
    pub(crate) api: Api,
    /// The URL for people, when the operator has set one.
    pub(crate) public_url: Option<RelayUrl>,
    /// The URL to print and to show on pages when there is no better one.
    pub(crate) own_url: RelayUrl,
    /// Who may use the relay.
    pub(crate) access: Access,
    /// What the operator may change at any time; see [`Live`].
    pub(crate) live: watch::Receiver<Live>,
    /// The certificate, and who looks after it.
    pub(crate) tls: Tls,
    /// The programs to hand out, when the operator has named a directory of them.
    pub(crate) downloads: Option<Arc<Downloads>>,
    /// What browsers see.
    pub(crate) pages: Pages,
    /// How long a peer may take for each first word.
    pub(crate) first_word_timeout: Duration,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Who is let in, and what was refused.
    pub(crate) gate: Gate,
    /// Every task but the accept loops.
    pub(crate) tasks: TaskTracker,
    /// The sessions alone, so that a stopping relay can wait for them.
    pub(crate) sessions: TaskTracker,
    /// The agents alone: one of several relays waits until the others have them.
    pub(crate) agents: TaskTracker,
    /// Nothing new is taken any more.
    pub(crate) draining: CancellationToken,
    /// How long who is here may then stay.
    spread: OnceLock<Duration>,
    /// Everything ends now.
    pub(crate) ending: CancellationToken,
    links: AtomicU64,
    session_numbers: AtomicU64,
}

/// Under which URLs people reach the relay.
pub(crate) struct Urls {
    /// What the operator has set.
    pub(crate) public: Option<RelayUrl>,
    /// As far as the relay can know itself.
    pub(crate) own: RelayUrl,
}

impl Shared {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        metrics: Metrics,
        api: Api,
        urls: Urls,
        tls: Tls,
        first_word_timeout: Duration,
        live: watch::Receiver<Live>,
    ) -> Self {
        Self {
            registry,
            cluster: None,
            metrics,
            directory: Directory::default(),
            api,
            public_url: urls.public,
            own_url: urls.own,
            tls,
            downloads: None,
            pages: Pages::new(PagesSettings::default(), None),
            first_word_timeout,
            access: Access::new(live.clone(), first_word_timeout),
            gate: Gate::new(live.clone()),
            live,
            tasks: TaskTracker::new(),
            sessions: TaskTracker::new(),
            agents: TaskTracker::new(),
            draining: CancellationToken::new(),
            spread: OnceLock::new(),
            ending: CancellationToken::new(),
            links: AtomicU64::new(0),
            session_numbers: AtomicU64::new(0),
        }
    }

    /// Starts a task of the relay's. When everything ends it has [`limits::GOODBYE_TIMEOUT`] to tell its peer.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        // Boxed, because a future that is handed to another is there twice in that.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            let overdue = async {
                ending.cancelled().await;
                tokio::time::sleep(limits::GOODBYE_TIMEOUT).await;
            };
            tokio::select! {
                biased; // A task that is over was not overdue.
                () = task => {}
                () = overdue => debug!("a peer did not take its goodbye"),
            }
        });
    }

    /// As [`spawn`](Self::spawn), for what a stopping relay waits for.
    pub(crate) fn spawn_session(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(self.sessions.track_future(task));
    }

    /// Takes nothing new any more, and lets go of who is here within this time.
    pub(crate) fn drain(&self, spread: Duration) {
        // Before anybody asks.
        let _ = self.spread.set(spread);
        self.draining.cancel();
    }

    /// When one of those who are here is let go of, while the relay drains: at a time of its own, so that not all come to
    /// the others at once. Nothing where it is now.
    pub(crate) fn time_to_leave(&self) -> Option<Instant> {
        let spread = self.spread.get().copied().filter(|spread| !spread.is_zero())?;
        Some(Instant::now() + spread.mul_f64(rand::random()))
    }

    /// When the relay drains and it is the turn of this one who has come here for an agent at another relay.
    pub(crate) async fn turn_to_leave(&self) {
        self.draining.cancelled().await;
        if let Some(time) = self.time_to_leave() {
            tokio::time::sleep_until(time.into()).await;
        }
    }

    /// A number for a new link.
    pub(crate) fn next_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for a new session: in a cluster another one than any of the other relays'.
    pub(crate) fn next_session(&self) -> u64 {
        let number = self.session_numbers.fetch_add(1, Ordering::Relaxed) + 1;
        self.relay_number().map_or(number, |relay| session_number(relay, number))
    }

    /// This relay's number among those that act as one.
    pub(crate) fn relay_number(&self) -> Option<RelayNumber> {
        self.cluster.as_ref().map(|cluster| cluster.me())
    }

    /// The URL that pages and agents show.
    pub(crate) fn shown_url(&self) -> &RelayUrl {
        self.public_url.as_ref().unwrap_or(&self.own_url)
    }

    /// How the programs come to a machine.
    pub(crate) fn install_lines(&self) -> InstallLines {
        if self.downloads.is_none() {
            return InstallLines::default();
        }
        let installer = Installer::new(self.shown_url().clone());
        InstallLines {
            shell: Some(installer.shell_line()),
            powershell: installer.powershell_line(),
            powershell_agent: installer.powershell_agent_line(),
        }
    }
}

/// What is left of a session's number for each relay to count with: in a cluster the bits above are the relay's. With its
/// twelve bits that is below 2^53, up to which any reader of JSON has whole numbers.
const SESSION_BITS: u32 = 40;

fn session_number(relay: RelayNumber, number: u64) -> u64 {
    (u64::from(relay.get()) << SESSION_BITS) | (number & ((1 << SESSION_BITS) - 1))
}

/// The relay that has given a session its number, where it is one of a cluster's.
pub(crate) fn relay_of_session(number: u64) -> Option<RelayNumber> {
    u16::try_from(number >> SESSION_BITS).ok().and_then(RelayNumber::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sessions_say_whose_they_are_and_are_whole_in_json() {
        for relay in [RelayNumber::MIN, RelayNumber::MAX] {
            for number in [1, 77, (1 << SESSION_BITS) - 1] {
                let session = session_number(relay, number);
                assert!(session < 1 << 53, "{session}");
                assert_eq!((relay_of_session(session), session & 0xff_ffff_ffff), (Some(relay), number));
            }
        }
        assert_eq!([1, 77, u64::MAX].map(relay_of_session), [None; 3]);
    }
}

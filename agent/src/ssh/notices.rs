//! How users hear of notices, each in the way that damages nothing.
//!
//! - On a terminal with a shell, or a program that writes lines: as a line of its own, above the prompt and what was
//!   typed behind it.
//! - On a terminal that a program has for itself (an editor, `top`, tmux): a warning rings the bell and goes into the
//!   window's title; as a line it comes when the program has ended. Nothing is written into its screen.
//! - In a session without a terminal (file transfer, tunnels, commands): to the client, which tells the person. What
//!   commands write is not added to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use converge_proto::session::Severity;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NotifyClient;
use super::screen::Screen;
use crate::life::notice::Notice;
use crate::life::{Life, Short};

/// Notices that wait for a program to end; of more, the older ones go.
const MAX_WAITING: usize = 8;
/// A notice that has waited longer says so.
const OLD: Duration = Duration::from_secs(20);

/// Puts a title aside, sets one, and rings. Terminals that keep no titles ignore the first.
const TITLE_BEGIN: &str = "\x1b[22;2t\x1b]2;";
const TITLE_END: &str = "\x07\x07";
/// Takes the title back.
const TITLE_RESTORE: &[u8] = b"\x1b[23;2t";

/// The notices of one connection.
#[derive(Debug)]
pub(super) struct ConnectionNotices {
    life: Life,
    session: String,
    to_client: Option<NotifyClient>,
    terminals: AtomicUsize,
}

impl ConnectionNotices {
    pub(super) fn new(life: Life, session: String, to_client: Option<NotifyClient>) -> Self {
        Self { life, session, to_client, terminals: AtomicUsize::new(0) }
    }

    /// Tells the client of a connection that has no terminal, until it ends.
    pub(super) async fn tell_client(self: Arc<Self>, ended: CancellationToken) {
        let Some(to_client) = &self.to_client else { return };
        let mut notices = self.life.notices();
        while let Some(Some(notice)) = ended.run_until_cancelled(next(&mut notices, &self.session)).await {
            if self.terminals.load(Ordering::Relaxed) == 0 {
                (to_client.0)(&notice);
            }
        }
    }

    /// For a program on a terminal.
    pub(super) fn terminal(self: &Arc<Self>, term: &str) -> TerminalNotices {
        self.terminals.fetch_add(1, Ordering::Relaxed);
        TerminalNotices {
            notices: self.life.notices(),
            connection: self.clone(),
            waiting: VecDeque::new(),
            has_titles: !matches!(term, "" | "dumb"),
            title_is_ours: false,
        }
    }
}

/// The next notice for this session; `None` when there will be none.
async fn next(notices: &mut broadcast::Receiver<Notice>, session: &str) -> Option<Notice> {
    loop {
        match notices.recv().await {
            Ok(notice) if notice.is_for(session) => return Some(notice),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The notices for one terminal.
#[derive(Debug)]
pub(super) struct TerminalNotices {
    notices: broadcast::Receiver<Notice>,
    connection: Arc<ConnectionNotices>,
    waiting: VecDeque<(Instant, Notice)>,
    has_titles: bool,
    title_is_ours: bool,
}

impl TerminalNotices {
    /// The next notice. Cancel-safe.
    pub(super) async fn next(&mut self) -> Notice {
        match next(&mut self.notices, &self.connection.session).await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    /// A notice has come; [`show`](Self::show) is next. Returns what is written even where no line may be.
    pub(super) fn push(&mut self, notice: Notice, screen: &Screen, takes_lines: bool) -> Option<Vec<u8>> {
        let may_sign = self.has_titles && screen.is_between() && !takes_lines;
        let sign = (may_sign && notice.severity == Severity::Warning).then(|| {
            self.title_is_ours = true;
            format!("{TITLE_BEGIN}converge: {}{TITLE_END}", notice.text).into_bytes()
        });
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((Instant::now(), notice));
        sign
    }

    /// Whether anything waits to be shown.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What waits, as it is to be written on a terminal that takes lines now.
    pub(super) fn show(&mut self, screen: &Screen) -> Vec<u8> {
        let mut lines = String::new();
        for (since, notice) in self.waiting.drain(..) {
            let age = since.elapsed();
            let said = if age > OLD { format!(" (said {} ago)", Short(age)) } else { String::new() };
            lines.push_str(&format!("converge: {}{said}\n", notice.text));
        }
        let mut text = screen.put_in(&lines);
        if std::mem::take(&mut self.title_is_ours) {
            text.splice(..0, TITLE_RESTORE.iter().copied());
        }
        text
    }
}

impl Drop for TerminalNotices {
    fn drop(&mut self) {
        self.connection.terminals.fetch_sub(1, Ordering::Relaxed);
    }
}

//! How the relays are that act as one, as the page says it.

use super::{row::Shows, view::count};

/// A relay on the page. Where it is and why it is away is not for everybody: the API says that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelayLine {
    pub(super) number: u16,
    /// Whether it is the one that shows the page.
    pub(super) is_here: bool,
    pub(super) is_draining: bool,
    /// What it says of itself; nothing when it does not answer.
    pub(super) said: Option<SaidOfItself>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SaidOfItself {
    pub(super) jobs: usize,
    pub(super) sessions: usize,
    pub(super) has_registry: bool,
}

impl RelayLine {
    /// For the style of it.
    pub(super) fn state(&self) -> &'static str {
        match self.said {
            None => "away",
            Some(SaidOfItself { has_registry: false, .. }) => "cut-off",
            Some(_) if self.is_draining => "draining",
            Some(_) => "up",
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    pub(super) fn words(&self, shows: &Shows) -> String {
        let mut words = format!("Relay {}", self.number);
        if self.is_here {
            words.push_str(" (this one)");
        }
        words.push_str(": ");
        let Some(said) = self.said else { return words + "does not answer" };
        words.push_str(&count(said.jobs, "job"));
        if shows.clients() {
            words.push_str(", ");
            words.push_str(&count(said.sessions, "session"));
        }
        if self.is_draining {
            words.push_str(", about to stop");
        }
        if !said.has_registry {
            words.push_str(", does not reach the registry");
        }
        words
    }
}

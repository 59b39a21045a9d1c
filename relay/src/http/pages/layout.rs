//! What all pages have around them.

use super::SessionsPage;
use crate::{http::assets, shared::Shared};
use converge_proto::version::ProtocolVersion;

/// The frame of a page: where it is, and which others there are.
pub(super) struct Layout {
    /// The way from this page to the root of the relay: `./`, `../`, …
    pub(super) root: String,
    here: &'static str,
    has_sessions: bool,
    has_downloads: bool,
}

impl Layout {
    /// For the page at `path` as the relay sees it; a proxy may have taken something off its front, which is why links
    /// are relative. `here` is the entry in the list of pages that it is, if any.
    pub(super) fn new(shared: &Shared, path: &str, here: &'static str) -> Self {
        let depth = path.matches('/').count().saturating_sub(1);
        let settings = &shared.pages.settings;
        Self {
            root: if depth == 0 { "./".to_owned() } else { "../".repeat(depth) },
            here,
            has_sessions: settings.sessions_page != SessionsPage::Off,
            has_downloads: shared.downloads.is_some(),
        }
    }

    /// Where an asset is, from this page.
    pub(super) fn asset(&self, name: &str) -> String {
        format!("{}{}", self.root, assets::path(name))
    }

    /// Whether there is a page of sessions.
    pub(super) fn has_sessions(&self) -> bool {
        self.has_sessions
    }

    /// Name, path, and whether this is it.
    pub(super) fn links(&self) -> Vec<(&'static str, &'static str, bool)> {
        let all = [
            ("About", "", true),
            ("Usage", "usage", true),
            ("Sessions", "sessions", self.has_sessions),
            ("Downloads", "downloads", self.has_downloads),
        ];
        let there = all.into_iter().filter(|(.., is_there)| *is_there);
        there.map(|(name, path, _)| (name, path, name == self.here)).collect()
    }

    #[allow(clippy::unused_self, reason = "the template asks the layout for everything")]
    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[allow(clippy::unused_self, reason = "as above")]
    pub(super) fn protocol(&self) -> String {
        ProtocolVersion::list()
    }
}

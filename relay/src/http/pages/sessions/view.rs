//! What of the board one page shows: a search, filters, and a part of what they find.

use super::{
    board::Snapshot,
    relays::RelayLine,
    row::{Row, Shows},
};
use askama::Template;
use std::sync::Arc;
use url::form_urlencoded;

/// Rows of one page.
pub(super) const ROWS: usize = 100;
const MAX_SEARCH_CHARACTERS: usize = 100;

/// What somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) search: String,
    /// The same as rows are searched with.
    needle: String,
    carrier: Option<&'static str>,
    state: Option<State>,
    /// From 1.
    page: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Used,
    Held,
}

/// What a view shows of one snapshot.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) rows: Vec<Arc<Row>>,
    /// How many rows there are on all pages.
    pub(super) matching: usize,
    /// The page that this is: the last one when the wanted one is behind it.
    pub(super) page: usize,
    pub(super) pages: usize,
}

impl PartialEq for Row {
    /// A row that has changed is another one.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

#[derive(Template)]
#[template(path = "pager.html")]
struct Pager {
    page: usize,
    pages: usize,
    before: String,
    after: String,
}

#[derive(Template)]
#[template(path = "relays.html")]
struct RelaysHtml<'a> {
    relays: &'a [RelayLine],
    shows: Shows,
}

impl View {
    const CARRIERS: [(&'static str, &'static str); 3] =
        [("", "any"), ("quic", "quic"), ("websocket", "websocket")];
    const STATES: [(&'static str, &'static str); 3] =
        [("", "all"), ("used", "with sessions"), ("held", "held")];

    /// Reads a query; what makes no sense is not there.
    pub(super) fn parse(query: &str) -> Self {
        let mut view = Self { page: 1, ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => {
                    view.search = value.trim().chars().take(MAX_SEARCH_CHARACTERS).collect();
                    view.needle = view.search.to_lowercase();
                }
                "carrier" => {
                    let known = Self::CARRIERS.into_iter().map(|(value, _)| value);
                    view.carrier = known.into_iter().find(|known| *known == value && !known.is_empty());
                }
                "state" if value == "used" => view.state = Some(State::Used),
                "state" if value == "held" => view.state = Some(State::Held),
                "page" => view.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        view
    }

    fn carrier_value(&self) -> &'static str {
        self.carrier.unwrap_or_default()
    }

    fn state_value(&self) -> &'static str {
        match self.state {
            None => "",
            Some(State::Used) => "used",
            Some(State::Held) => "held",
        }
    }

    /// Values, what people read, and whether it is the wanted one.
    pub(super) fn carrier_options(&self) -> [(&'static str, &'static str, bool); 3] {
        Self::CARRIERS.map(|(value, name)| (value, name, value == self.carrier_value()))
    }

    /// The same for what goes on in jobs.
    pub(super) fn state_options(&self) -> [(&'static str, &'static str, bool); 3] {
        Self::STATES.map(|(value, name)| (value, name, value == self.state_value()))
    }

    fn is_everything(&self) -> bool {
        self.needle.is_empty() && self.carrier.is_none() && self.state.is_none()
    }

    fn finds(&self, row: &Row) -> bool {
        let by_state = match self.state {
            None => true,
            Some(State::Used) => row.is_used(),
            Some(State::Held) => row.is_held(),
        };
        by_state && self.carrier.is_none_or(|carrier| row.carrier() == Some(carrier)) && row.has(&self.needle)
    }

    /// Its part of a snapshot.
    pub(super) fn of(&self, snapshot: &Snapshot) -> Shown {
        if self.is_everything() {
            return self.part(&snapshot.rows);
        }
        let found: Vec<_> = snapshot.rows.iter().filter(|row| self.finds(row)).cloned().collect();
        self.part(&found)
    }

    fn part(&self, found: &[Arc<Row>]) -> Shown {
        let pages = found.len().div_ceil(ROWS).max(1);
        let page = self.page.min(pages);
        let rows = found.iter().skip((page - 1) * ROWS).take(ROWS).cloned().collect();
        Shown { rows, matching: found.len(), page, pages }
    }

    fn query(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let parts =
            [("q", self.search.as_str()), ("carrier", self.carrier_value()), ("state", self.state_value())];
        query.extend_pairs(parts.into_iter().filter(|(_, value)| !value.is_empty()));
        query.append_pair("page", &page.to_string());
        query.finish()
    }
}

/// So many, in words.
pub(super) fn count(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

impl Shown {
    /// How many there are, in words.
    pub(super) fn summary(&self, snapshot: &Snapshot) -> String {
        let all = snapshot.rows.len();
        let jobs = if self.matching == all {
            count(all, "job")
        } else {
            format!("{} of {}", self.matching, count(all, "job"))
        };
        if snapshot.shows.clients() {
            format!("{jobs}, {}", count(snapshot.sessions, "session"))
        } else {
            jobs
        }
    }

    /// The relays that act as one, and how each is.
    pub(super) fn relays(snapshot: &Snapshot) -> String {
        let (relays, shows) = (&*snapshot.relays, snapshot.shows);
        RelaysHtml { relays, shows }.render().unwrap_or_default().trim().to_owned()
    }

    /// The way to the other pages.
    pub(super) fn pager(&self, view: &View) -> String {
        let (before, after) = (view.query(self.page.saturating_sub(1)), view.query(self.page + 1));
        Pager { page: self.page, pages: self.pages, before, after }.render().unwrap_or_default()
    }
}

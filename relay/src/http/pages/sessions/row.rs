//! One agent as the page shows it.

use super::unix;
use crate::{
    directory::{AgentEntry, SessionEntry},
    http::pages::{HiddenField, PagesSettings, size::size},
};
use askama::Template;
use converge_proto::{Id, RelayNumber};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use url::Url;

/// Of what an agent says of itself, a line shows no more characters.
const MAX_SAID: usize = 120;
/// Sessions of one agent that are told one by one.
const MAX_SESSIONS: usize = 6;
/// Claims that are told; the most telling come first.
const MAX_CLAIMS: usize = 4;

/// Which parts of a row there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each part, and no two of them depend on each other"
)]
pub(super) struct Shows {
    job: bool,
    host: bool,
    os: bool,
    carrier: bool,
    clients: bool,
    bytes: bool,
    expires: bool,
    claims: bool,
    addresses: bool,
}

impl Shows {
    pub(super) fn new(settings: &PagesSettings) -> Self {
        let shows = |field| !settings.hidden.contains(&field);
        Self {
            job: shows(HiddenField::Job),
            host: shows(HiddenField::Host),
            os: shows(HiddenField::Os),
            carrier: shows(HiddenField::Carrier),
            clients: shows(HiddenField::Clients),
            bytes: shows(HiddenField::Bytes),
            expires: shows(HiddenField::Expires),
            claims: shows(HiddenField::Claims),
            addresses: settings.shows_addresses,
        }
    }

    pub(super) fn place(self) -> bool {
        self.host || self.os || self.addresses
    }

    pub(super) fn clients(self) -> bool {
        self.clients
    }

    pub(super) fn bytes(self) -> bool {
        self.bytes
    }

    pub(super) fn life(self) -> bool {
        self.expires
    }
}

/// An agent's row. What is hidden is not in it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Id,
    /// Grows from each row that a board makes to the next.
    pub(super) stamp: u64,
    said: Said,
    /// What searches look at, in lower case.
    text: String,
    /// As browsers that are live get it, made when the first one shows it.
    html: OnceLock<String>,
}

/// What is shown; also what one relay tells another of its agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    id: Id,
    /// Where it is, where several relays act as one.
    relay: Option<u16>,
    job: Option<String>,
    job_url: Option<String>,
    ci: Option<String>,
    host: Option<String>,
    platform: Option<String>,
    address: Option<String>,
    carrier: Option<String>,
    since: u64,
    users: Option<u32>,
    session_count: usize,
    sessions: Vec<SaidSession>,
    more_sessions: usize,
    bytes: Option<(u64, u64)>,
    expires: Option<u64>,
    clock: Option<String>,
    held: bool,
    claims: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SaidSession {
    software: String,
    carrier: String,
    since: u64,
    address: Option<String>,
}

impl Row {
    pub(super) fn new(agent: &AgentEntry, shows: Shows, relay: Option<RelayNumber>) -> Self {
        Self::of(Said::new(agent, shows, relay))
    }

    /// What another relay shows of an agent, without what this one hides.
    pub(super) fn from_elsewhere(mut said: Said, shows: Shows, relay: RelayNumber) -> Self {
        said.relay = Some(relay.get());
        said.hide(shows);
        Self::of(said)
    }

    fn of(said: Said) -> Self {
        let claims = said.claims.iter().map(|(_, value)| value);
        let texts = [&said.job, &said.ci, &said.host, &said.platform, &said.address].into_iter().flatten();
        let mut text = said.id.to_string();
        for more in texts.chain(claims) {
            text.push('\n');
            text.push_str(&more.to_lowercase());
        }
        Self { id: said.id.clone(), stamp: 0, said, text, html: OnceLock::new() }
    }

    /// What it shows.
    pub(super) fn said(&self) -> &Said {
        &self.said
    }

    /// Whether the row would look the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.said == other.said
    }

    /// Whether every search and filter finds it as it finds the other.
    pub(super) fn is_found_like(&self, other: &Self) -> bool {
        self.text == other.text
            && self.said.carrier == other.said.carrier
            && self.is_used() == other.is_used()
            && self.said.held == other.said.held
    }

    /// Whether the bytes that it shows are those of its agent.
    pub(super) fn has_bytes_of(&self, agent: &AgentEntry) -> bool {
        self.said.bytes.is_none_or(|bytes| bytes == agent.bytes())
    }

    /// Whether a search, in lower case, finds it.
    pub(super) fn has(&self, search: &str) -> bool {
        self.text.contains(search)
    }

    pub(super) fn carrier(&self) -> Option<&str> {
        self.said.carrier.as_deref()
    }

    pub(super) fn is_used(&self) -> bool {
        self.said.session_count > 0
    }

    pub(super) fn is_held(&self) -> bool {
        self.said.held
    }

    /// A table row. `now` is what its durations are counted to.
    pub(super) fn html(&self, shows: Shows, now: u64) -> String {
        RowHtml { row: &self.said, shows, now }.render().unwrap_or_default()
    }

    /// The same for a browser whose script counts durations on; made once for all of them.
    pub(super) fn live_html(&self, shows: Shows, now: u64) -> &str {
        self.html.get_or_init(|| self.html(shows, now))
    }
}

impl Said {
    fn new(agent: &AgentEntry, shows: Shows, relay: Option<RelayNumber>) -> Self {
        let info = &agent.info;
        let all_sessions = if shows.clients { agent.sessions() } else { Vec::new() };
        let status = agent.status().filter(|_| shows.expires);
        Self {
            id: agent.id.clone(),
            relay: relay.map(RelayNumber::get),
            job: shown(shows.job, info.job.as_ref()),
            job_url: info.job_url.as_ref().filter(|_| shows.job).and_then(|url| harmless_url(url.as_str())),
            ci: shown(shows.job, info.ci.as_ref()),
            host: shown(shows.host, info.host.as_ref()),
            platform: shown(shows.os, info.platform.as_ref()),
            address: shows.addresses.then(|| agent.peer.address.ip().to_string()),
            carrier: shows.carrier.then(|| agent.carrier.to_string()),
            since: unix(agent.since),
            users: agent.status().filter(|_| shows.clients).map(|status| status.users),
            session_count: all_sessions.len(),
            sessions: all_sessions
                .iter()
                .take(MAX_SESSIONS)
                .map(|session| SaidSession::new(session, shows))
                .collect(),
            more_sessions: all_sessions.len().saturating_sub(MAX_SESSIONS),
            bytes: shows.bytes.then(|| agent.bytes()),
            expires: status.as_ref().and_then(|status| status.expires).map(unix_of_instant),
            clock: status.as_ref().and_then(|status| status.clock.as_deref()).map(clock),
            held: status.is_some_and(|status| status.is_held),
            claims: if shows.claims { claims(agent) } else { Vec::new() },
        }
    }

    /// Takes out what is not to be shown.
    fn hide(&mut self, shows: Shows) {
        if !shows.job {
            (self.job, self.job_url, self.ci) = (None, None, None);
        }
        if !shows.host {
            self.host = None;
        }
        if !shows.os {
            self.platform = None;
        }
        if !shows.carrier {
            self.carrier = None;
        }
        if !shows.clients {
            (self.users, self.session_count, self.more_sessions) = (None, 0, 0);
            self.sessions.clear();
        }
        if !shows.bytes {
            self.bytes = None;
        }
        if !shows.expires {
            (self.expires, self.clock, self.held) = (None, None, false);
        }
        if !shows.claims {
            self.claims.clear();
        }
        if !shows.addresses {
            self.address = None;
            self.sessions.iter_mut().for_each(|session| session.address = None);
        }
        // Another version of this program may have other thoughts about what is harmless.
        self.job_url = self.job_url.take().and_then(|url| harmless_url(&url));
    }

    fn clients(&self) -> String {
        let sessions = match self.session_count {
            0 => "none".to_owned(),
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        match self.users {
            Some(1) => format!("{sessions}, 1 user"),
            Some(users) if users > 1 => format!("{sessions}, {users} users"),
            _ => sessions,
        }
    }
}

impl SaidSession {
    fn new(session: &Arc<SessionEntry>, shows: Shows) -> Self {
        Self {
            software: cut(session.software.as_str()),
            carrier: session.peer.carrier.to_string(),
            since: unix(session.since),
            address: shows.addresses.then(|| session.peer.address.ip().to_string()),
        }
    }
}

fn write_id<S: Serializer>(id: &Id, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn read_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Which clock it is that ends the agent.
fn clock(name: &str) -> String {
    match name {
        "first" => "if nobody comes".to_owned(),
        "idle" => "if nobody does anything".to_owned(),
        "lifetime" => "at the latest".to_owned(),
        other => cut(other),
    }
}

/// What a CI system has signed about the job: as many claims as say what it is.
fn claims(agent: &AgentEntry) -> Vec<(String, String)> {
    let Some(claims) = &agent.grant.claims else { return Vec::new() };
    let values = claims.values.iter().map(|(name, value)| (name.clone(), cut(value)));
    values.take(MAX_CLAIMS).collect()
}

fn shown(is_shown: bool, text: Option<&impl ToString>) -> Option<String> {
    text.filter(|_| is_shown).map(|text| cut(&text.to_string())).filter(|text| !text.is_empty())
}

fn cut(text: &str) -> String {
    let mut characters = text.chars();
    let mut cut: String = characters.by_ref().take(MAX_SAID).collect();
    if characters.next().is_some() {
        cut.push('…');
    }
    cut
}

/// A URL that an agent has sent, when it is one of a page and does not pretend to be another one's.
fn harmless_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_page = matches!(url.scheme(), "http" | "https") && url.has_host();
    (is_page && url.username().is_empty() && url.password().is_none()).then(|| url.to_string())
}

fn unix_of_instant(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    // Rounded, so that the same instant is the same second whenever it is asked for.
    unix(SystemTime::now() + left + Duration::from_millis(500))
}

#[derive(Template)]
#[template(path = "row.html")]
struct RowHtml<'a> {
    row: &'a Said,
    shows: Shows,
    now: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
impl RowHtml<'_> {
    fn since(&self, at: &u64) -> String {
        let text = duration(self.now.saturating_sub(*at));
        format!("<time datetime=\"{}\" data-since=\"{at}\">{text}</time>", stamp(*at))
    }

    fn until(&self, at: &u64) -> String {
        let text = duration(at.saturating_sub(self.now));
        format!("<time datetime=\"{}\" data-until=\"{at}\">{text}</time>", stamp(*at))
    }

    #[allow(clippy::unused_self, reason = "templates call what they are made of")]
    fn size(&self, bytes: &u64) -> String {
        size(*bytes)
    }
}

fn stamp(unix: u64) -> String {
    // Four digits of years; a clock that is wrong by more is not worth more.
    let limit = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix.min(limit))).to_string()
}

/// As the script says it, too (`duration` in `sessions.js`).
fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_pages_are_links() {
        assert_eq!(
            harmless_url("https://ci.example/a b?x=\"y\"").as_deref(),
            Some("https://ci.example/a%20b?x=%22y%22")
        );
        for text in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//ci.example",
            "https://user@ci.example/",
            "ftp://x/",
            "",
        ] {
            assert_eq!(harmless_url(text), None, "{text}");
        }
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([5, 65, 3725, 90_000].map(duration), ["5 s", "1 min", "1 h 2 min", "1 d 1 h"]);
        assert_eq!([0, 999, 1000, 1_250_000].map(size), ["0 B", "999 B", "1.0 kB", "1.2 MB"]);
        assert_eq!(cut(&"x".repeat(200)).chars().count(), MAX_SAID + 1);
    }
}

//! The board and what browsers are told of it.

use super::{board::Board, row::Shows, view::View, window::Window};
use crate::{
    access::{Claims, Grant, oidc::IssuerKind},
    directory::{AgentStay, Directory, NewAgent, NewSession},
    http::pages::{HiddenField, PagesSettings},
    peer::Peer,
};
use converge_proto::{
    HostKey,
    rendezvous::{
        AgentInfo, LinkNumber, SessionKind, Status,
        messages::{Line, Name},
    },
};
use converge_transport::{Carrier, Direction, Meter};
use serde_json::Value;
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use std::time::Instant;

fn key() -> HostKey {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]));
    HostKey::new(PrivateKey::new(pair, "").unwrap().public_key()).unwrap()
}

fn peer(carrier: Carrier) -> Peer {
    Peer::new("192.0.2.1:1000".parse().unwrap(), carrier)
}

pub(super) fn enter(directory: &Directory, number: u64, id: &str, info: AgentInfo) -> AgentStay {
    let carrier = if number.is_multiple_of(2) { Carrier::Quic } else { Carrier::WebSocket };
    directory.enter(NewAgent {
        number: LinkNumber(number),
        id: id.parse().unwrap(),
        host_key: key(),
        info,
        peer: peer(carrier),
        grant: Grant::default(),
    })
}

pub(super) fn many(directory: &Directory, count: u64) -> Vec<AgentStay> {
    let info = |number: u64| AgentInfo {
        host: Some(Name::new(format!("runner-{}", number % 7))),
        platform: Some(Name::new("linux x86_64")),
        job: Some(Name::new(format!("octocat/hello-world: test #{number}"))),
        job_url: Some(Line::new(format!("https://github.com/octocat/hello-world/actions/runs/{number}"))),
        ci: Some(Name::new("GitHub Actions")),
        ..AgentInfo::default()
    };
    (0..count).map(|number| enter(directory, number, &format!("a{number:05}"), info(number))).collect()
}

pub(super) fn begin(directory: &Directory, number: u64, id: &str) -> crate::directory::SessionStay {
    directory.begin(NewSession {
        number,
        id: id.parse().unwrap(),
        kind: SessionKind::Raw,
        software: Name::new("converge/0.1.0"),
        peer: peer(Carrier::Quic),
        token: None,
        is_resumed: false,
    })
}

/// A browser on this page, with its board.
struct Browser<'a> {
    directory: &'a Directory,
    board: Board,
    window: Window,
}

impl<'a> Browser<'a> {
    fn new(directory: &'a Directory, query: &str) -> Self {
        let board = Board::new(Shows::new(&PagesSettings::default()));
        Self { directory, board, window: Window::new(View::parse(query)) }
    }

    /// What it is told now, as it is sent; `null` for nothing.
    fn hears(&mut self) -> Value {
        let snapshot = self.board.look(self.directory);
        serde_json::to_value(self.window.look(&snapshot, 0)).unwrap()
    }
}

fn ids(update: &Value, part: &str) -> Vec<String> {
    let list = update.get(part).and_then(Value::as_array).into_iter().flatten();
    list.map(|row| row.get(0).unwrap_or(row).as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_browser_hears_everything_first_and_then_what_is_new_in_its_window() {
    let directory = Directory::default();
    let mut agents = many(&directory, 3);
    let mut browser = Browser::new(&directory, "");
    let first = browser.hears();
    assert_eq!(ids(&first, "order"), ["a00000", "a00001", "a00002"]);
    assert_eq!((ids(&first, "rows").len(), first["summary"].as_str()), (3, Some("3 jobs, 0 sessions")));
    assert_eq!(browser.hears(), Value::Null);

    let session = begin(&directory, 1, "a00001");
    let began = browser.hears();
    assert_eq!((ids(&began, "rows"), began.get("order")), (vec!["a00001".to_owned()], None));
    assert_eq!(began["summary"], "3 jobs, 1 session");
    drop(session.entry().traffic.pass(Direction::Forward, 5000));
    let moved = browser.hears();
    assert!(moved["rows"][0][1].as_str().unwrap().contains("5.0 kB in"), "{moved}");
    drop(session);
    agents.remove(0);
    let left = browser.hears();
    assert_eq!(
        (ids(&left, "order"), ids(&left, "rows")),
        (vec!["a00001".to_owned(), "a00002".to_owned()], vec!["a00001".to_owned()])
    );
}

#[test]
fn a_page_has_so_many_rows_and_the_last_one_the_rest() {
    let directory = Directory::default();
    let agents = many(&directory, 250);
    let mut second = Browser::new(&directory, "page=2");
    let mut last = Browser::new(&directory, "page=99");
    let told = second.hears();
    assert_eq!((ids(&told, "order").len(), ids(&told, "order")[0].as_str()), (100, "a00100"));
    assert!(told["pager"].as_str().unwrap().contains("2 of 3"), "{told}");
    assert_eq!(ids(&last.hears(), "order").len(), 50);
    drop(agents);
    let empty = second.hears();
    assert_eq!((ids(&empty, "order").len(), empty["summary"].as_str()), (0, Some("0 jobs, 0 sessions")));
}

#[test]
fn searches_and_filters_find_what_is_shown() {
    let directory = Directory::default();
    let agents = many(&directory, 20);
    let count = |query: &str| ids(&Browser::new(&directory, query).hears(), "order").len();
    assert_eq!(
        (count("q=TEST+%2319"), count("q=runner-3"), count("q=a00007"), count("q=nothing")),
        (1, 3, 1, 0)
    );
    assert_eq!((count("carrier=quic"), count("state=used"), count("state=held")), (10, 0, 0));
    let _session = begin(&directory, 1, "a00003");
    agents[5].tell_status(&Status { users: 1, held: true, ..Status::default() });
    assert_eq!((count("state=used"), count("state=held"), count("state=held&carrier=quic")), (1, 1, 0));
    assert_eq!(Browser::new(&directory, "state=used").hears()["summary"], "1 of 20 jobs, 1 session");
}

#[test]
fn a_filter_that_a_row_begins_to_match_shows_it() {
    let directory = Directory::default();
    let _agents = many(&directory, 3);
    let mut browser = Browser::new(&directory, "state=used");
    assert_eq!(ids(&browser.hears(), "order").len(), 0);
    let session = begin(&directory, 1, "a00001");
    assert_eq!(ids(&browser.hears(), "order"), ["a00001"]);
    drop(session);
    let ended = browser.hears();
    assert_eq!((ended["order"].as_array().unwrap().len(), ended.get("rows")), (0, None));
}

#[test]
fn what_is_hidden_is_neither_shown_nor_found() {
    let directory = Directory::default();
    let _agents = many(&directory, 1);
    let _session = begin(&directory, 1, "a00000");
    let mut settings = PagesSettings::default();
    let html = |settings: &PagesSettings| {
        let snapshot = Board::new(Shows::new(settings)).look(&directory);
        snapshot.rows[0].html(snapshot.shows, 0)
    };
    let all = html(&settings);
    for part in ["octocat", "GitHub", "runner-0", "linux", "quic", "1 session", "converge/0.1.0", "0 B"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    assert!(!all.contains("192.0.2.1"), "addresses are not shown unless somebody wants it: {all}");
    settings.hidden.extend(HiddenField::ALL);
    let none = html(&settings);
    for part in ["octocat", "GitHub", "runner-0", "linux", "quic", "session", "converge/0.1.0", "0 B"] {
        assert!(!none.contains(part), "{part} in {none}");
    }
    let snapshot = Board::new(Shows::new(&settings)).look(&directory);
    assert_eq!(View::parse("q=octocat").of(&snapshot).matching, 0);
}

#[test]
fn claims_that_were_verified_are_marked_as_such() {
    let directory = Directory::default();
    let claims = Claims {
        issuer: IssuerKind::GITHUB.to_owned(),
        kind: IssuerKind::Github,
        values: vec![("repository".to_owned(), "octocat/hello-world".to_owned())],
    };
    let _agent = directory.enter(NewAgent {
        number: LinkNumber(1),
        id: "build".parse().unwrap(),
        host_key: key(),
        info: AgentInfo::default(),
        peer: peer(Carrier::Quic),
        grant: Grant { claims: Some(claims), ..Grant::default() },
    });
    let snapshot = Board::new(Shows::new(&PagesSettings::default())).look(&directory);
    let html = snapshot.rows[0].html(snapshot.shows, 0);
    assert!(html.contains("Verified") && html.contains("repository: octocat/hello-world"), "{html}");
    assert_eq!(View::parse("q=octocat").of(&snapshot).matching, 1);
}

#[test]
fn what_agents_say_is_only_text() {
    let directory = Directory::default();
    let info = AgentInfo {
        job: Some(Name::new("<script>alert(1)</script>")),
        job_url: Some(Line::new("javascript:alert(1)")),
        host: Some(Name::new("\"><img src=x onerror=alert(1)>")),
        ..AgentInfo::default()
    };
    let _agent = enter(&directory, 1, "evil", info);
    let snapshot = Board::new(Shows::new(&PagesSettings::default())).look(&directory);
    let html = snapshot.rows[0].html(snapshot.shows, 0);
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("javascript:"), "{html}");
}

#[test]
fn a_board_that_looks_too_late_reads_everything_again() {
    let directory = Directory::default();
    let agents = many(&directory, 2);
    let mut browser = Browser::new(&directory, "");
    browser.hears();
    for users in 0..9000 {
        agents[0].tell_status(&Status { users, ..Status::default() });
    }
    assert_eq!(ids(&browser.hears(), "rows"), ["a00000"], "the other one has not changed");
}

/// The page has to stay live with 10,000 agents. The sizes are what is asserted; the times are printed
/// (`--nocapture`), and only asserted to be nowhere near a second.
#[test]
fn ten_thousand_agents_cost_little() {
    let directory = Directory::default();
    let mut agents = many(&directory, 10_000);
    let mut browser = Browser::new(&directory, "");
    let timed = |what: &str, browser: &mut Browser<'_>| {
        let began = Instant::now();
        let snapshot = browser.board.look(browser.directory);
        let (board, looked) = (began.elapsed(), Instant::now());
        let update = browser.window.look(&snapshot, 0).map(|update| serde_json::to_string(&update).unwrap());
        let bytes = update.as_ref().map_or(0, String::len);
        println!(
            "{what}: board {board:?} for all browsers, window {:?} for each, {bytes} bytes",
            looked.elapsed()
        );
        assert!(began.elapsed().as_secs() < 5, "{what} takes too long, even on a busy machine");
        bytes
    };
    let all = timed("first look", &mut browser);
    assert!(all < 150_000, "a window, not everything: {all} bytes");
    assert_eq!(timed("nothing new", &mut browser), 0);
    agents[50].tell_status(&Status { users: 3, ..Status::default() });
    let one = timed("one change in the window", &mut browser);
    assert!((1..3000).contains(&one), "{one} bytes");
    agents[5000].tell_status(&Status { users: 3, ..Status::default() });
    assert_eq!(timed("one change elsewhere", &mut browser), 0);
    let sessions: Vec<_> =
        (0..1000).map(|number| begin(&directory, number, &format!("a{:05}", number * 10))).collect();
    timed("1,000 sessions begin", &mut browser);
    for session in &sessions {
        drop(session.entry().traffic.pass(Direction::Backward, 1000));
    }
    timed("1,000 sessions move bytes", &mut browser);
    agents.drain(2000..3000);
    let gone = timed("1,000 agents go", &mut browser);
    assert!(gone < 500, "none of them was in the window: {gone} bytes");
    let mut searching = Browser { window: Window::new(View::parse("q=%235000")), ..browser };
    timed("a search", &mut searching);
    let _new = enter(&directory, 99_999, "zz", AgentInfo::default());
    timed("an agent comes, with a search", &mut searching);
}

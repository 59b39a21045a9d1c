//! What browsers see: every page, refusals as pages, and the list of sessions as it changes.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{By, TestRelay, a_relay, soon};
use converge_relay::{
    PagesSettings, SessionsPage,
    limits::{Limits, Proxies},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

async fn ask(relay: &TestRelay, path: &str, headers: &str) -> TcpStream {
    let mut connection = TcpStream::connect(relay.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\n{headers}Connection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

async fn get(relay: &TestRelay, path: &str, headers: &str) -> String {
    let mut answer = String::new();
    soon("an answer", ask(relay, path, headers).await.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn has_status(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

#[tokio::test]
async fn every_page_has_a_strict_policy_and_relative_links() {
    let relay = a_relay().start();
    for path in ["/", "/usage", "/sessions", "/client/build", "/nowhere/at/all"] {
        let page = get(&relay, path, BROWSER).await;
        let policy = page.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let body = page.split_once("\r\n\r\n").unwrap().1;
        for quote in ["href=\"/", "src=\"/", "action=\"/", "<style", "style=\"", "<script>", "onclick"] {
            assert!(!body.contains(quote), "{quote} in {path}");
        }
    }
    relay.stop().await;
}

#[tokio::test]
async fn assets_are_kept_for_good_by_their_version() {
    let relay = a_relay().start();
    let page = get(&relay, "/usage", BROWSER).await;
    let style = page.split('"').find(|part| part.ends_with("/style.css")).unwrap();
    let path = style.strip_prefix('.').unwrap();
    let asset = get(&relay, path, "").await;
    assert!(has_status(&asset, 200) && asset.contains("immutable") && asset.contains("text/css"), "{asset}");
    let version = path.split('/').nth(2).unwrap();
    assert!(has_status(&get(&relay, &path.replace(version, "0"), "").await, 404));
    let nested = get(&relay, "/client/build", BROWSER).await;
    assert!(nested.contains(&format!("href=\"..{path}\"")), "{nested}");
    relay.stop().await;
}

#[tokio::test]
async fn refusals_are_pages_for_browsers_and_lines_for_others() {
    let relay = a_relay().start();
    let page = get(&relay, "/client/Build", BROWSER).await;
    assert!(has_status(&page, 400) && page.contains("<h1>") && page.contains("text/html"), "{page}");
    assert!(page.contains("an ID is made of"), "{page}");
    let line = get(&relay, "/nothing", "Accept: */*\r\n").await;
    assert!(
        has_status(&line, 404) && line.ends_with("\r\n\r\nthere is no such page on this relay\n"),
        "{line}"
    );
    let page = get(&relay, "/no/such/page", BROWSER).await;
    assert!(has_status(&page, 404) && page.contains("href=\"../../usage\""), "{page}");
    relay.stop().await;
}

#[tokio::test]
async fn usage_answers_a_form_and_tells_what_is_wrong_with_it() {
    let relay = a_relay().start();
    let page = get(&relay, "/usage?ci=other&id=my-build&github=octocat&step=make+test", BROWSER).await;
    let agent = format!(
        "converge-agent run --relay &#39;{}&#39; --id my-build --github-user octocat -- make test",
        relay.url
    );
    assert!(page.contains(&agent), "{page}");
    let page = get(&relay, "/usage?id=%3Cscript%3E", BROWSER).await;
    assert!(page.contains("The ID: ") && !page.contains("<script>"), "{page}");
    relay.stop().await;
}

#[tokio::test]
async fn sessions_are_for_whom_the_operator_says() {
    let off = PagesSettings { sessions_page: SessionsPage::Off, ..PagesSettings::default() };
    let relay = a_relay().with_pages(off).start();
    for path in ["/sessions", "/sessions/live"] {
        let answer = get(&relay, path, "").await;
        assert!(has_status(&answer, 404) && answer.contains("does not show its sessions"), "{answer}");
    }
    assert!(!get(&relay, "/", BROWSER).await.contains("sessions"), "no link to what is not there");
    relay.stop().await;

    let token = PagesSettings { sessions_page: SessionsPage::Token, ..PagesSettings::default() };
    let relay = a_relay().with_pages(token).start();
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp3cm9uZw==\r\n"] {
        for path in ["/sessions", "/sessions/live"] {
            let answer = get(&relay, path, headers).await;
            assert!(has_status(&answer, 401) && answer.contains("www-authenticate: Basic"), "{answer}");
        }
    }
    assert!(get(&relay, "/sessions", BROWSER).await.contains("A token is needed"));
    relay.stop().await;
}

/// The events of a stream, as a browser hears them.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn of(relay: &TestRelay, query: &str) -> Self {
        Self(BufReader::new(ask(relay, &format!("/sessions/live?{query}"), "").await))
    }

    /// The next one; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if soon("an event", self.0.read_line(&mut line)).await.unwrap() == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn live_updates_tell_who_comes_and_goes_until_the_relay_drains() {
    let relay = a_relay().start();
    let mut events = Events::of(&relay, "").await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (&first["order"], &first["summary"]),
        (&Value::from(Vec::<Value>::new()), &"0 jobs, 0 sessions".into())
    );
    let agent = relay.an_agent(By::Quic).register().await;
    let came = events.next().await.unwrap();
    assert_eq!((&came["order"][0], &came["summary"]), (&"build".into(), &"1 job, 0 sessions".into()));
    assert!(came["rows"][0][1].as_str().unwrap().contains("client/build"), "{came}");
    agent.say_bye().await;
    let went = events.next().await.unwrap();
    assert_eq!(went["order"], Value::from(Vec::<Value>::new()));
    relay.drain();
    assert_eq!(events.next().await, None);
    relay.stopped().await;
}

#[tokio::test]
async fn browsers_of_one_address_leave_room_for_others() {
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let proxies = Proxies { trusted, ..Proxies::default() };
    let limits =
        Limits { watching_browsers: 3, watching_browsers_per_address: 2, proxies, ..Limits::default() };
    let relay = a_relay().with_limits(limits).start();
    let path = "/sessions/live";
    let of = |last: u8| format!("X-Forwarded-For: 192.0.2.{last}\r\n");
    let mut watching = Vec::new();
    for last in [1, 1, 2] {
        let mut events = Events(BufReader::new(ask(&relay, path, &of(last)).await));
        events.next().await.unwrap();
        watching.push(events);
        if watching.len() == 2 {
            let refused = get(&relay, path, &of(1)).await;
            assert!(has_status(&refused, 429) && refused.contains("at your address"), "{refused}");
            assert!(refused.to_lowercase().contains("retry-after: 30"), "{refused}");
        }
    }
    let refused = get(&relay, path, &of(3)).await;
    assert!(has_status(&refused, 503) && refused.contains("too many browsers watch"), "{refused}");
    assert!(has_status(&get(&relay, "/sessions", &format!("{}{BROWSER}", of(1))).await, 200));
    // Who closes the page makes room.
    drop(watching.swap_remove(0));
    let back = async {
        loop {
            let mut events = Events(BufReader::new(ask(&relay, path, &of(1)).await));
            if events.next().await.is_some() {
                break;
            }
        }
    };
    soon("room", back).await;
    relay.stop().await;
}

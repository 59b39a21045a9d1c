//! Several relays as one: what each of them knows and does for all, with a real etcd.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a step that cannot be taken fails the test"
)]

mod common;

use common::{
    By, a_relay,
    agent::TestAgent,
    cluster::{Machine, TestCluster, relays},
    soon,
};
use converge_proto::{
    Frame, FrameType,
    cluster::Ask,
    rendezvous::{Message, RefusalCode, Refused, Request, Response, messages::Line},
};
use converge_relay::{
    PagesSettings,
    access::{
        AccessSettings, Scope, Scopes,
        tokens::{Secret, StaticToken},
    },
    config::Live,
};
use converge_transport::Role;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::Instant,
};

/// What an agent is asked next, which it then does, or does not.
async fn asked(agent: &mut TestAgent, refusal: Option<&str>) -> Request {
    let request = Request::from_frame(&agent.next_frame().await).unwrap();
    let response = Response { number: request.number, refusal: refusal.map(Line::new) };
    agent.control.send.write_frame(&response.to_frame()).await.unwrap();
    request
}

/// The other relay knows where the agent is.
async fn until_found(relay: &Machine, id: &str) -> Value {
    relay.until(&format!("/api/v1/agents/{id}"), |answer| answer["id"] == id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_at_one_relay_is_listed_shown_and_asked_through_another() {
    let cluster = TestCluster::start(relays::<2>()).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let mut agent = first.an_agent(By::Quic).register().await;
    let shown = until_found(second, "build").await;
    assert_eq!((&shown["relay"], &shown["software"]), (&json!(1), &json!("test-agent")));
    for relay in [first, second] {
        let (status, list) = relay.api("GET", "/api/v1/agents", None, None).await;
        assert_eq!((status, list["agents"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
        assert_eq!((&list["agents"][0], list.get("unreachable")), (&shown, None));
    }

    let post = |path: &'static str, body: Value| second.api("POST", path, None, Some(body));
    let (answer, request) =
        tokio::join!(post("/api/v1/agents/build/message", json!({"text": "hello"})), asked(&mut agent, None));
    assert_eq!((answer, request.message), ((200, json!({"id": "build"})), Some(Line::new("hello"))));
    let (answer, request) = tokio::join!(
        post("/api/v1/agents/build/extend", json!({"seconds": 60})),
        asked(&mut agent, Some("not today"))
    );
    assert_eq!((answer.0, request.extend_ms), (409, Some(60_000)));
    assert_eq!(answer.1["type"], "urn:converge:problem:agent-refuses");
    assert!(answer.1["detail"].as_str().unwrap().contains("not today"), "{}", answer.1);
    let many = json!({"ids": ["build", "nobody"], "reason": "that is all"});
    let (answer, request) = tokio::join!(post("/api/v1/bulk/stop", many), asked(&mut agent, None));
    assert_eq!(request.stop, Some(Line::new("that is all")));
    let outcomes = answer.1["results"].as_array().unwrap();
    assert_eq!(
        (answer.0, &outcomes[0], &outcomes[1]["status"]),
        (207, &json!({"id": "build", "status": 200}), &json!(404))
    );

    agent.say_bye().await;
    second
        .until("/api/v1/agents/build", |answer| answer["type"] == "urn:converge:problem:no-such-agent")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_through_two_relays_is_one_session_with_a_number_of_its_own() {
    let cluster = TestCluster::start(relays::<2>()).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let agents =
        [first.an_agent(By::Quic).wanting("one"), second.an_agent(By::Quic).wanting("two").with_key(2)];
    let [one, two] = [agents[0].register().await, agents[1].register().await];
    until_found(second, "one").await;
    let (across, _) = tokio::join!(second.connect("one", By::Quic), one.next_session());
    let (here, _) = tokio::join!(second.connect("two", By::WebSocket), two.next_session());
    let (_across, _here) = (across.unwrap(), here.unwrap());
    let numbers = [(1_u64 << 40) + 1, (2 << 40) + 1];
    for relay in [first, second] {
        let list = relay.api("GET", "/api/v1/sessions", None, None).await.1;
        let sessions = list["sessions"].as_array().unwrap();
        let told: Vec<_> = sessions.iter().map(|one| (one["number"].clone(), one["relay"].clone())).collect();
        assert_eq!(told, [(json!(numbers[0]), json!(1)), (json!(numbers[1]), json!(2))], "{list}");
        for (number, session) in numbers.iter().zip(sessions) {
            let shown = relay.api("GET", &format!("/api/v1/sessions/{number}"), None, None).await;
            assert_eq!((shown.0, &shown.1["id"]), (200, &session["id"]));
        }
        let (status, problem) =
            relay.api("GET", &format!("/api/v1/sessions/{}", numbers[0] + 7), None, None).await;
        assert_eq!((status, &problem["type"]), (404, &json!("urn:converge:problem:no-such-session")));
        let of_one = relay.api("GET", "/api/v1/sessions?id=one&limit=1", None, None).await.1;
        assert_eq!((of_one["sessions"].as_array().unwrap().len(), of_one.get("next")), (1, None), "{of_one}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_three_relays_have_each_agent_once_and_in_order() {
    let cluster = TestCluster::start(relays::<3>()).await;
    let mut agents = Vec::new();
    for number in 0..11_u8 {
        let relay = cluster.relay(usize::from(number % 3) + 1);
        let id = format!("a{number:02}");
        agents.push(relay.an_agent(By::Quic).wanting(&id).with_key(number).register().await);
    }
    let all: Vec<_> = (0..11).map(|number| format!("a{number:02}")).collect();
    for (relay, size) in [(1, 4), (2, 1), (3, 11), (1, 100)] {
        let relay = cluster.relay(relay);
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/agents?limit={size}{after}");
            let page = relay.api("GET", &path, None, None).await.1;
            assert_eq!(page.get("unreachable"), None, "{page}");
            let ids = page["agents"]
                .as_array()
                .unwrap()
                .iter()
                .map(|agent| agent["id"].as_str().unwrap().to_owned());
            seen.extend(ids);
            let Some(next) = page.get("next") else { break };
            after = format!("&after={}", next.as_str().unwrap());
        }
        assert_eq!(seen, all, "in pages of {size}");
    }
    let found = cluster.relay(2).api("GET", "/api/v1/agents?contains=A07", None, None).await.1;
    assert_eq!(
        (found["agents"][0]["id"].as_str(), found["agents"][0]["relay"].as_u64()),
        (Some("a07"), Some(2))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_hangs_or_dies_is_named_and_the_rest_is_there_in_time() {
    let mut cluster = TestCluster::start(relays::<3>()).await;
    let mut agents = Vec::new();
    for number in 1..=3_u8 {
        let id = format!("a{number}");
        let relay = cluster.relay(number.into());
        agents.push(relay.an_agent(By::Quic).wanting(&id).with_key(number).register().await);
        until_found(cluster.relay(1), &id).await;
    }
    cluster.relay_mut(3).hang();
    let began = Instant::now();
    let first = cluster.relay(1);
    let (status, list) = first.api("GET", "/api/v1/agents", None, None).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(
        (status, &list["unreachable"], list["agents"].as_array().unwrap().len()),
        (200, &json!([3]), 2),
        "{list}"
    );
    let relays = first.api("GET", "/api/v1/relays", None, None).await.1;
    let third = &relays["relays"][2];
    assert_eq!(
        (&relays["unreachable"], &third["number"], third.get("now")),
        (&json!([3]), &json!(3), None),
        "{relays}"
    );
    let (status, problem) = first.api("GET", "/api/v1/agents/a3", None, None).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:converge:problem:relay-away")), "{problem}");
    let (_, page) = first.http("GET", "/sessions", "", "").await;
    assert!(page.contains("Relay 1 (this one): 1 job, 0 sessions"), "{page}");
    assert!(
        page.contains("Relay 2: 1 job, 0 sessions") && page.contains("Relay 3: does not answer"),
        "{page}"
    );
    assert!(page.contains("client/a2") && !page.contains("client/a3"), "{page}");

    cluster.relay_mut(3).go_on();
    let first = cluster.relay(1);
    first.until("/api/v1/agents", |list| list["agents"].as_array().unwrap().len() == 3).await;
    first.until("/api/v1/relays", |list| list["relays"][2]["now"]["registry_up"] == true).await;
    cluster.relay_mut(2).kill();
    let first = cluster.relay(1);
    let list = first.api("GET", "/api/v1/agents", None, None).await.1;
    assert_eq!((list["agents"].as_array().unwrap().len(), &list["unreachable"]), (2, &json!([2])), "{list}");
    // Its lease in etcd ends, and then there is no such relay.
    first.until("/api/v1/relays", |list| list["relays"].as_array().unwrap().len() == 2).await;
    let list = first.api("GET", "/api/v1/agents", None, None).await.1;
    assert_eq!((list["agents"].as_array().unwrap().len(), list.get("unreachable")), (2, None), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_is_good_for_the_same_at_every_relay() {
    let secrets = [1, 2, 3].map(|byte| Secret::generate([byte; 32]));
    let scopes = [Scope::ApiWrite, Scope::ApiRead, Scope::ApiRead];
    let patterns = [None, Some("team-*"), None];
    let tokens = secrets.iter().zip(scopes).zip(patterns).map(|((secret, scope), ids)| StaticToken {
        name: scope.to_string(),
        hash: secret.hash(),
        scopes: Scopes(vec![scope]),
        ids: ids.map(|ids| ids.parse().unwrap()),
        expires: None,
    });
    // Only the relay that is asked knows the tokens: the other one takes its word.
    let settings = AccessSettings { tokens: tokens.collect(), ..AccessSettings::default() };
    let mut asked_one = a_relay();
    asked_one.config.live = Live { access: Arc::new(settings), ..Live::default() };
    let cluster = TestCluster::start([a_relay(), asked_one]).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let [write, team, read] = secrets.map(Secret::into_text);
    let mut agents = Vec::new();
    for (seed, id) in [(1, "team-1"), (2, "other")] {
        agents.push(first.an_agent(By::Quic).wanting(id).with_key(seed).register().await);
    }
    let ids = async |token: &str| {
        let list = second.api("GET", "/api/v1/agents", Some(token), None).await.1;
        list["agents"].as_array().map(|all| all.iter().map(|agent| agent["id"].clone()).collect::<Vec<_>>())
    };
    let seen = async {
        while ids(&read).await != Some(vec![json!("other"), json!("team-1")]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("both agents at the other relay", seen).await;
    assert_eq!(ids(&team).await, Some(vec![json!("team-1")]));
    let status = async |method: &str, path: &str, token: Option<&str>| {
        let body = (method == "POST").then(|| json!({"text": "hello"}));
        second.api(method, path, token, body).await.0
    };
    assert_eq!(status("GET", "/api/v1/agents/other", Some(&team)).await, 403);
    assert_eq!(status("GET", "/api/v1/agents/team-1", Some(&team)).await, 200);
    assert_eq!(status("POST", "/api/v1/agents/other/message", Some(&read)).await, 403);
    let known = async {
        while status("GET", "/api/v1/agents/other", Some(&read)).await != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("what the list has in the registry, too", known).await;
    let (answer, request) = tokio::join!(
        status("POST", "/api/v1/agents/other/message", Some(&write)),
        asked(&mut agents[1], None)
    );
    assert_eq!((answer, request.message), (200, Some(Line::new("hello"))));
    assert_eq!(status("GET", "/api/v1/agents", None).await, 401);
    assert_eq!(status("GET", "/api/v1/relays", None).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_claims_to_be_another_relay_is_not_believed() {
    let mut closed = a_relay();
    // It has a token that nobody here knows.
    let scopes = Scopes(vec![Scope::ApiRead]);
    let hash = Secret::generate([9; 32]).hash();
    let token = StaticToken { name: "x".to_owned(), hash, scopes, ids: None, expires: None };
    let settings = AccessSettings { tokens: vec![token], ..AccessSettings::default() };
    closed.config.live = Live { access: Arc::new(settings), ..Live::default() };
    let cluster = TestCluster::start([closed, a_relay()]).await;
    let relay = cluster.relay(1);
    let _agent = relay.an_agent(By::Quic).register().await;
    // What relays ask each other is not there for others at all.
    assert_eq!(relay.http("GET", "/rows?run=0&stamp=0&layout=0", "", "").await.0, 404);
    // No header makes a request another relay's.
    for header in
        ["Converge-Relay: 2", "X-Converge-Relay: 2", "Forwarded: for=relay-2.cluster.converge", "Host: relay"]
    {
        assert_eq!(
            relay.http("GET", "/api/v1/agents", &format!("{header}\r\n"), "").await.0,
            401,
            "{header}"
        );
    }
    // The frame that begins a question is refused on a link that is not between relays.
    let ask = Ask { may_write: true, token: None, ids: None }.to_frame();
    let id = "build".parse().unwrap();
    for by in [By::Quic, By::WebSocket] {
        let link = relay.link(by, Role::Client(&id)).await;
        let mut stream = link.open_stream().await.unwrap();
        let mut bytes = ask.to_bytes().to_vec();
        bytes.extend_from_slice(b"GET /api/v1/agents HTTP/1.1\r\nHost: relay\r\n\r\n");
        stream.send.write_chunk(bytes.into()).await.unwrap();
        stream.send.flush().await.unwrap();
        let answer: Frame = soon("an answer", stream.recv.read_frame()).await.unwrap().unwrap();
        assert_eq!(answer.frame_type, FrameType::REFUSED);
        assert_eq!(Refused::from_frame(&answer).unwrap().code, RefusalCode::PROTOCOL_VIOLATION, "{by:?}");
    }
}

/// What the page shows of what a browser is told, event after event.
struct Browser {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
    order: Vec<String>,
    rows: String,
    summary: String,
    relays: String,
}

impl Browser {
    async fn at(relay: &Machine) -> Self {
        let mut connection = TcpStream::connect(relay.http).await.unwrap();
        let request = "GET /sessions/live HTTP/1.1\r\nHost: relay\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let empty = String::new;
        let lines = BufReader::new(connection).lines();
        Self { lines, order: Vec::new(), rows: empty(), summary: empty(), relays: empty() }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&Self) -> bool) {
        soon(what, async {
            while !is_it(self) {
                let line = self.lines.next_line().await.unwrap().expect("the stream goes on");
                let Some(data) = line.strip_prefix("data: ") else { continue };
                let update: Value = serde_json::from_str(data).unwrap();
                if let Some(order) = update["order"].as_array() {
                    self.order = order.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
                }
                for row in update["rows"].as_array().into_iter().flatten() {
                    self.rows.push_str(row[1].as_str().unwrap());
                }
                for (name, place) in [("summary", &mut self.summary), ("relays", &mut self.relays)] {
                    if let Some(text) = update[name].as_str() {
                        text.clone_into(place);
                    }
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_of_sessions_has_the_jobs_of_all_relays_and_follows_them() {
    let mut hiding = a_relay();
    hiding.config.pages =
        PagesSettings { hidden: ["bytes".parse().unwrap()].into(), ..PagesSettings::default() };
    let cluster = TestCluster::start([a_relay(), a_relay(), hiding]).await;
    let [first, second, third] = [1, 2, 3].map(|number| cluster.relay(number));
    let near = first.an_agent(By::Quic).wanting("near").register().await;
    let far = second.an_agent(By::Quic).wanting("far").with_key(2).register().await;
    let page = first.http("GET", "/sessions", "", "").await.1;
    for part in ["2 jobs, 0 sessions", "client/far", "client/near", "relay 1", "relay 2", "Relay 3: 0 jobs"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(page.find("client/far") < page.find("client/near"), "{page}");

    let mut browsers = [Browser::at(first).await, Browser::at(third).await];
    for browser in &mut browsers {
        browser.until("both jobs", |browser| browser.order == ["far", "near"]).await;
        assert!(browser.relays.contains("Relay 2: 1 job, 0 sessions"), "{}", browser.relays);
    }
    assert!(
        browsers[0].rows.contains("0 B in") && !browsers[1].rows.contains("0 B in"),
        "what is hidden is hidden"
    );
    // A page asks all relays; a client's relay has heard of the agent, or not yet.
    until_found(first, "far").await;
    let (session, _) = tokio::join!(first.connect("far", By::Quic), far.next_session());
    let session = session.unwrap();
    for browser in &mut browsers {
        browser
            .until("the session", |browser| {
                browser.summary == "2 jobs, 1 session" && browser.rows.contains("test-client")
            })
            .await;
    }
    drop(session);
    far.say_bye().await;
    for browser in &mut browsers {
        browser.until("that one has gone", |browser| browser.order == ["near"]).await;
        browser.until("no session", |browser| browser.summary == "1 job, 0 sessions").await;
    }
    drop(near);
}

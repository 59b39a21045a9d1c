//! Lists of keys from a web server: what is taken from it, and what happens when it changes or is away.

mod common;

use common::web::{Answer, Web, read_head};
use common::{Files, TestServer, run, success, until};
use converge_agent::users::{FetchSettings, ListSource, Report, Users, UsersConfig};
use converge_transport::ProxyChoice;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Far longer than any test.
const NEVER: Duration = Duration::from_hours(24);

/// Nothing is fetched again of its own accord, and at once when an unknown key comes.
fn settings() -> FetchSettings {
    FetchSettings {
        refresh: NEVER,
        retry: Duration::from_millis(1),
        keep: NEVER,
        time_limit: common::PATIENCE,
        ..FetchSettings::default()
    }
}

fn list(web: &Web) -> ListSource {
    ListSource::github(&web.url(""), "kim").expect("a name and a site")
}

async fn load(source: ListSource, fetch: FetchSettings) -> (Users, Report) {
    Users::load(UsersConfig { lists: vec![source], fetch, ..UsersConfig::default() }).await
}

/// A server that lets in who is on the list, and nobody else.
async fn server(files: Files, web: &Web, fetch: FetchSettings) -> TestServer {
    let (users, _) = load(list(web), fetch).await;
    TestServer::start_on(files, |config| config.users = users).await
}

async fn gets_in(server: &TestServer, key: &str) -> bool {
    let mut ssh = server.files.client("ssh", server.port, key);
    ssh.args(["x@127.0.0.1", "true"]);
    run(ssh, b"").await.status.success()
}

/// Until a list has been fetched, and noted, that is asked for after this moment.
async fn fetched_anew(web: &Web) {
    let before = web.count();
    // The second request comes when the outcome of the first is known.
    until("the list is fetched again", || web.count() >= before + 2).await;
}

/// The one problem with a list.
async fn problem(source: ListSource, fetch: FetchSettings) -> String {
    let (_, report) = load(source, fetch).await;
    assert!(!report.is_anybody(), "{report}");
    let [problem] = report.warnings() else { panic!("{:?}", report.warnings()) };
    assert!(report.to_string().contains(problem), "{report}");
    problem.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_user_get_in_and_others_do_not() {
    let files = Files::new().await;
    let web = Web::start(Answer::text(&files.public_key("id"))).await;
    let server = server(files, &web, settings()).await;
    assert!(gets_in(&server, "id").await);
    assert!(!gets_in(&server, "other").await);
    let request = web.requests().remove(0);
    assert!(request.starts_with("GET /kim.keys HTTP/1.1\r\n"), "{request}");
    let host = format!("host: 127.0.0.1:{}\r\n", web.port);
    assert!(request.to_lowercase().contains(&host), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_may_have_options_and_name_authorities() {
    let files = Files::new().await;
    let lines = format!(
        "command=\"echo forced\" {}cert-authority {}",
        files.public_key("id"),
        files.public_key("other")
    );
    let web = Web::start(Answer::text(&lines)).await;
    let (_, report) = load(list(&web), settings()).await;
    assert_eq!((report.keys(), report.authorities()), (1, 1));
    let server = server(files, &web, settings()).await;
    let mut ssh = server.files.client("ssh", server.port, "id");
    ssh.args(["x@127.0.0.1", "true"]);
    assert_eq!(success(&run(ssh, b"").await), "forced\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_added_later_gets_in_without_waiting() {
    let files = Files::new().await;
    let (id, other) = (files.public_key("id"), files.public_key("other"));
    let web = Web::start(Answer::text(&id)).await;
    let server = server(files, &web, settings()).await;
    assert!(!gets_in(&server, "other").await);
    web.answer(Answer::text(&format!("{id}{other}")));
    assert!(gets_in(&server, "other").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_make_us_hammer_the_site() {
    let files = Files::new().await;
    let web = Web::start(Answer::text(&files.public_key("id"))).await;
    let server = server(files, &web, FetchSettings { retry: NEVER, ..settings() }).await;
    for _ in 0..3 {
        assert!(!gets_in(&server, "other").await);
    }
    assert!(gets_in(&server, "id").await);
    assert_eq!(web.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_removed_goes_out_in_the_background() {
    let files = Files::new().await;
    let other = files.public_key("other");
    let web = Web::start(Answer::text(&files.public_key("id"))).await;
    let often = FetchSettings { refresh: Duration::from_millis(20), retry: NEVER, ..settings() };
    let server = server(files, &web, often).await;
    assert!(gets_in(&server, "id").await);
    web.answer(Answer::text(&other));
    fetched_anew(&web).await;
    assert!(!gets_in(&server, "id").await);
    assert!(gets_in(&server, "other").await);
    // Nobody at all is a list too.
    web.answer(Answer::text(""));
    fetched_anew(&web).await;
    assert!(!gets_in(&server, "other").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_list_stays_while_the_server_is_not_well_and_goes_when_the_user_is_gone() {
    let files = Files::new().await;
    let id = files.public_key("id");
    let web = Web::start(Answer::text(&id)).await;
    let often = Duration::from_millis(20);
    let server = server(files, &web, FetchSettings { refresh: often, retry: often, ..settings() }).await;
    for trouble in
        [Answer::status("500 Oh"), Answer::text("<html>log in"), Answer::Bytes(b"what?\r\n\r\n".to_vec())]
    {
        web.answer(trouble.clone());
        fetched_anew(&web).await;
        assert!(gets_in(&server, "id").await, "{trouble:?}");
    }
    web.answer(Answer::status("404 Not Found"));
    fetched_anew(&web).await;
    assert!(!gets_in(&server, "id").await);
    web.answer(Answer::text(&id));
    fetched_anew(&web).await;
    assert!(gets_in(&server, "id").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_list_of_a_dead_server_is_used_for_a_limited_time() {
    let often = Duration::from_millis(20);
    for (keep, ends) in [(NEVER, false), (Duration::from_secs(1), true)] {
        let files = Files::new().await;
        let web = Web::start(Answer::text(&files.public_key("id"))).await;
        let server =
            server(files, &web, FetchSettings { refresh: often, retry: often, keep, ..settings() }).await;
        fetched_anew(&web).await;
        drop(web);
        if ends {
            let refused = async { while gets_in(&server, "id").await {} };
            tokio::time::timeout(common::PATIENCE, refused).await.expect("the list gets too old");
        } else {
            for _ in 0..3 {
                assert!(gets_in(&server, "id").await);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_is_named() {
    let web = Web::start(Answer::text("")).await;
    for (answer, words) in [
        (Answer::text(""), "no public key there"),
        (Answer::text("# nobody\n"), "no public key there"),
        (Answer::status("404 Not Found"), "the server knows no such user or file (status 404)"),
        (Answer::status("410 Gone"), "the server knows no such user or file (status 410)"),
        (Answer::status("403 Forbidden"), "the server wants a login (status 403)"),
        (Answer::status("503 Service Unavailable"), "the server answers 503 Service Unavailable instead"),
        (Answer::status("204 No Content"), "the server answers 204 No Content instead"),
        (Answer::text("no key\n"), "not a list of keys: no public key on this line"),
        (Answer::text("\0\u{1}\u{2}\n\u{3}"), "not a list of keys: "),
        (Answer::text(" <!DOCTYPE html><p>Log in"), "a web page instead of a list of keys"),
        (Answer::whole("200 OK", "Content-Type: TEXT/HTML\r\n", "x"), "a web page instead of a list of keys"),
        (Answer::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()), "does not answer as a web server does"),
        (Answer::Bytes(Vec::new()), "does not answer as a web server does"),
        (
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nssh-".to_vec()),
            "does not answer as a web server does",
        ),
        (
            Answer::redirect("http://192.0.2.1/kim.keys"),
            "sends us elsewhere (status 302): the URL has to start with",
        ),
        (Answer::redirect("ftp://127.0.0.1/"), "sends us elsewhere (status 302): the URL has to start with"),
        (Answer::redirect("/again"), "sends us elsewhere more than 3 times"),
        (Answer::status("302 Found"), "the server answers 302 Found instead"),
    ] {
        web.answer(answer.clone());
        let problem = problem(list(&web), settings()).await;
        let url = web.url("/kim.keys: ");
        assert!(problem.starts_with(&url) && problem.contains(words), "{answer:?}: {problem}");
    }
    let url = list(&web);
    drop(web);
    // The last connections of the server that is gone.
    let refused =
        async { while !problem(url.clone(), settings()).await.contains("cannot reach 127.0.0.1: ") {} };
    tokio::time::timeout(common::PATIENCE, refused).await.expect("nobody listens there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_line_does_not_spoil_the_others() {
    let files = Files::new().await;
    let text = format!("hello\n{}", files.public_key("id"));
    let web = Web::start(Answer::text(&text)).await;
    let (_, report) = load(list(&web), settings()).await;
    assert_eq!((report.keys(), report.problems().len()), (1, 1), "{:?}", report.problems());
}

#[tokio::test(flavor = "multi_thread")]
async fn size_and_time_are_limited() {
    let files = Files::new().await;
    let limit = FetchSettings::default().max_bytes;
    let body = |length: usize| {
        let key = files.public_key("id");
        let filler = "#".repeat(length - key.len());
        format!("{key}{filler}")
    };
    let web = Web::start(Answer::text(&body(limit))).await;
    assert!(load(list(&web), settings()).await.1.is_anybody());
    for length in [limit + 1, 2 * limit] {
        web.answer(Answer::text(&body(length)));
        let problem = problem(list(&web), settings()).await;
        assert!(problem.contains("longer than 1048576 bytes"), "{problem}");
        // Without a Content-Length too.
        web.answer(Answer::Bytes(format!("HTTP/1.1 200 OK\r\n\r\n{}", body(length)).into_bytes()));
        let problem = self::problem(list(&web), settings()).await;
        assert!(problem.contains("longer than 1048576 bytes"), "{problem}");
    }
    web.answer(Answer::Endless);
    let soon = FetchSettings { time_limit: Duration::from_millis(300), ..settings() };
    let problem = problem(list(&web), soon).await;
    assert!(problem.contains("not all of it has come within 0.3 s"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_on_this_machine_is_followed() {
    let files = Files::new().await;
    let there = Web::start(Answer::text(&files.public_key("id"))).await;
    let here = Web::start(Answer::redirect(&there.url("/elsewhere?x=1"))).await;
    assert_eq!(load(list(&here), settings()).await.1.keys(), 1);
    assert!(there.requests()[0].starts_with("GET /elsewhere?x=1 HTTP/1.1\r\n"), "{:?}", there.requests());
}

/// Answers every CONNECT like this, and leads to where it was asked for if that is a success; with the questions.
async fn proxy(status: &'static str) -> (ProxyChoice, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://kim:hunter2@{}", listener.local_addr().expect("an address"));
    let (asked, questions) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let head = read_head(&mut client).await.expect("a question");
            client.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.expect("an answer");
            let target = head.split(' ').nth(1).expect("a target").to_owned();
            asked.send(head).expect("somebody looks");
            if status.starts_with('2') {
                let mut server = TcpStream::connect(target).await.expect("a server");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        }
    });
    (url.parse().expect("a proxy"), questions)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_everything_else_is_used() {
    let files = Files::new().await;
    let web = Web::start(Answer::text(&files.public_key("id"))).await;
    let load = async |proxy| {
        let lists = vec![list(&web)];
        Users::load(UsersConfig { lists, proxy, fetch: settings(), ..UsersConfig::default() }).await.1
    };
    let (through, mut questions) = proxy("200 OK").await;
    assert_eq!(load(through).await.keys(), 1);
    let question = questions.recv().await.expect("a question");
    assert!(question.starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", web.port)), "{question}");

    for (status, words) in [
        ("403 No", "does not connect us to 127.0.0.1: 403 Forbidden; ask who runs the proxy"),
        ("407 Who?", "refuses the user name and password (HTTP status 407); put them in the proxy's URL"),
    ] {
        let (refusing, _questions) = proxy(status).await;
        let report = load(refusing).await.to_string();
        assert!(report.contains(words) && !report.contains("hunter2"), "{report}");
    }
}

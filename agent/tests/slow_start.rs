//! An agent that does not reach its relay finds out why, once, and goes on dialing.

use converge_agent::{
    Agent, AgentDir, Config, events::Events, job::ci::CiJob, life::EndReason, life::login_text::LoginText,
    users::authorized_keys::AuthorizedKeys,
};
use converge_proto::expiry::ExpiryLimits;
use converge_transport::{
    ProxyChoice,
    probe::{CheckName, Outcome},
};
use std::time::Duration;
use tokio::{net::TcpListener, sync::watch, time::timeout};

/// In virtual time: longer than everything that happens here, so that a test that hangs fails instead.
const GUARD: Duration = Duration::from_mins(2);

/// In virtual time, which runs as long as nobody answers.
#[tokio::test(start_paused = true)]
async fn relay_that_says_nothing_is_probed_once_and_dialed_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let relay = format!("wss://{}", listener.local_addr().expect("an address"));
    let (dials, mut dialed) = watch::channel(0);
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.expect("a connection"));
            dials.send_replace(held.len());
        }
    });
    let directory = AgentDir::open(None).expect("an agent directory");
    let agent = Agent::new(Config {
        relays: relay.parse().expect("a URL"),
        insecure: false,
        client_certificate: None,
        token: converge_agent::relay::token::TokenSource::None,
        hears_operator: true,
        proxy: ProxyChoice::Direct,
        id: None,
        job: CiJob::default(),
        agent_dir: directory.path().to_owned(),
        host_key: directory.host_key([7; 32]).expect("a key"),
        users: AuthorizedKeys::new(Vec::<std::path::PathBuf>::new()).into(),
        shells: Vec::new(),
        place: None,
        policy: converge_agent::ssh::Policy::default(),
        working_dir: directory.path().to_owned(),
        environment: std::env::vars_os().collect(),
        limits: ExpiryLimits { first: None, idle: None, lifetime: None, warn: Vec::new() },
        login_text: LoginText::default(),
        events: Events::unread(),
    });
    let agent = agent.expect("a configuration that makes sense");
    let (mut diagnoses, life) = (agent.diagnoses(), agent.life());
    let running = tokio::spawn(agent.run());

    timeout(GUARD, diagnoses.changed()).await.expect("a diagnosis").expect("an agent");
    let reports = diagnoses.borrow_and_update().clone();
    let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    assert_eq!(report.verdict.carrier(), None);
    let outcome = |name| report.checks.iter().find(|check| check.name == name).map(|check| check.outcome);
    assert_eq!(outcome(CheckName::Tcp), Some(Outcome::Pass), "{report}");
    assert_eq!(outcome(CheckName::Tls), Some(Outcome::Fail), "{report}");

    for _ in 0..3 {
        let before = *dialed.borrow_and_update();
        timeout(GUARD, dialed.wait_for(|dials| *dials > before)).await.expect("a dial").expect("a listener");
    }
    assert!(!diagnoses.has_changed().expect("an agent"), "it was probed twice");
    life.end(EndReason::Signal(15));
    let end = timeout(GUARD, running).await.expect("an end").expect("no panic").expect("no error");
    assert_eq!(end, EndReason::Signal(15));
    accepting.abort();
}

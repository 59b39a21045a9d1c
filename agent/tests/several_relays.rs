//! An agent that was given several relays: where it goes, and where it does not.

use converge_agent::{
    Agent, AgentDir, AgentError, Config,
    events::Events,
    job::ci::CiJob,
    life::{EndReason, Life, login_text::LoginText},
    users::authorized_keys::AuthorizedKeys,
};
use converge_certs::Identity;
use converge_proto::{
    CertificatePin, FrameType, Id, RelayUrl, RelayUrls,
    expiry::ExpiryLimits,
    rendezvous::{Goaway, Limits, Message, RefusalCode, Refused, Register, Registered, messages::Line},
};
use converge_transport::{CloseCode, Link, ProxyChoice, Stream, quic};
use std::time::Duration;
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

/// Nothing here takes this long; a test that hangs fails instead.
const GUARD: Duration = Duration::from_mins(1);

async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(GUARD, event).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// What a relay here does with an agent.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    Refuses(RefusalCode),
}

/// An agent that has come to a relay.
struct Arrival {
    relay: usize,
    link: Link,
    control: Stream,
}

/// Relays on QUIC that know nothing of each other and tell one place of who comes.
struct Relays {
    urls: Vec<RelayUrl>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    accepting: Vec<AbortHandle>,
    _directory: TempDir,
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
    }
}

impl Relays {
    fn start(answers: &[Answer]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let identity =
            Identity::self_signed(directory.path(), &["localhost".to_owned()]).expect("a certificate");
        let pin = CertificatePin(identity.spki_sha256());
        let (tell, arrivals) = mpsc::unbounded_channel();
        let (mut urls, mut accepting) = (Vec::new(), Vec::new());
        for (relay, answer) in answers.iter().copied().enumerate() {
            let endpoint = quic::listen(
                "127.0.0.1:0".parse().expect("an address"),
                &identity,
                quic::MAX_STREAMS_TO_RELAY,
            )
            .expect("an endpoint");
            let address = endpoint.local_addr().expect("an address");
            let url: RelayUrl = format!("quic://{address}").parse().expect("a URL");
            urls.push(url.with_pin(Some(pin)));
            let tell = tell.clone();
            let task = tokio::spawn(async move {
                while let Some(incoming) = endpoint.accept().await {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        let Ok(connection) = incoming.await else { return };
                        let link = Link::quic(connection, None);
                        if let Some(control) = greet(&link, answer).await {
                            let _ = tell.send(Arrival { relay, link, control });
                        }
                    });
                }
            });
            accepting.push(task.abort_handle());
        }
        Self { urls, arrivals, accepting, _directory: directory }
    }

    /// The URLs of these, as an agent is given them.
    fn list(&self, relays: &[usize]) -> RelayUrls {
        RelayUrls::new(relays.iter().map(|relay| self.urls[*relay].clone())).expect("a list")
    }

    async fn arrival(&mut self) -> Arrival {
        soon("an agent", self.arrivals.recv()).await.expect("relays")
    }
}

/// Reads who comes, and answers. `None` when the agent left, or was not wanted.
async fn greet(link: &Link, answer: Answer) -> Option<Stream> {
    let mut control = link.accept_stream().await.ok()?;
    let frame = control.recv.read_frame().await.ok()??;
    assert_eq!(frame.frame_type, FrameType::REGISTER);
    let register = Register::from_frame(&frame).expect("a registration");
    match answer {
        Answer::Takes => {
            let id = register.wanted.unwrap_or_else(some_id);
            let limits = Limits { sessions: 8 };
            let registered =
                Registered { id, reassigned: None, keepalive_ms: 30_000, limits, public_url: None };
            control.send.write_frame(&registered.to_frame()).await.ok()?;
            Some(control)
        }
        Answer::Refuses(code) => {
            let refused = Refused { code, text: Line::new("not here") };
            control.send.write_frame(&refused.to_frame()).await.ok()?;
            link.closed().await;
            None
        }
    }
}

fn some_id() -> Id {
    "lusab-babad".parse().expect("an ID")
}

impl Arrival {
    /// The relay stops, and points somewhere.
    async fn send_away(&mut self, to: Option<&RelayUrl>) {
        let to = to.map(|url| Line::new(url.clone().with_pin(None).to_string()));
        let goaway = Goaway { reason: Line::new("an update"), retry_after_ms: 0, try_first: to };
        self.control.send.write_frame(&goaway.to_frame()).await.expect("a control stream");
    }
}

/// An agent that runs.
struct Running {
    life: Life,
    end: JoinHandle<Result<EndReason, AgentError>>,
    directory: AgentDir,
}

impl Running {
    fn start(relays: RelayUrls) -> Self {
        let directory = AgentDir::open(None).expect("an agent directory");
        let host_key = directory.host_key([7; 32]).expect("a key");
        let agent = Agent::new(Config {
            relays,
            insecure: false,
            client_certificate: None,
            token: converge_agent::relay::token::TokenSource::None,
            hears_operator: true,
            proxy: ProxyChoice::Direct,
            id: None,
            job: CiJob::default(),
            agent_dir: directory.path().to_owned(),
            host_key,
            users: AuthorizedKeys::new(Vec::<std::path::PathBuf>::new()).into(),
            shells: Vec::new(),
            place: None,
            policy: converge_agent::ssh::Policy::default(),
            working_dir: directory.path().to_owned(),
            environment: Vec::new(),
            limits: ExpiryLimits { first: None, idle: None, lifetime: None, warn: Vec::new() },
            login_text: LoginText::default(),
            events: Events::unread(),
        });
        let agent = agent.expect("a configuration that makes sense");
        let life = agent.life();
        Self { life, end: tokio::spawn(agent.run()), directory }
    }

    async fn stop(self) {
        let Self { life, end, directory } = self;
        life.end(EndReason::Signal(15));
        let end = soon("its end", end).await.expect("no panic").expect("no error");
        assert_eq!(end, EndReason::Signal(15));
        drop(directory);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_goes_where_the_relay_that_stops_says() {
    let mut relays = Relays::start(&[Answer::Takes; 4]);
    let agent = Running::start(relays.list(&[0, 1, 2, 3]));
    let mut here = relays.arrival().await;
    // Ten times right by chance is one in 59049.
    for step in 0..10 {
        let next = (here.relay + 1 + step % 3) % 4;
        let to = relays.urls[next].clone();
        here.send_away(Some(&to)).await;
        let arrival = relays.arrival().await;
        assert_eq!(arrival.relay, next, "step {step}");
        soon("the end of the old link", here.link.closed()).await;
        here = arrival;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_does_not_follow_to_a_stranger() {
    let mut relays = Relays::start(&[Answer::Takes; 3]);
    let (stranger, known) = (2, relays.list(&[0, 1]));
    let agent = Running::start(known);
    let mut here = relays.arrival().await;
    for step in 0..6 {
        let to = relays.urls[stranger].clone();
        here.send_away(Some(&to)).await;
        let arrival = relays.arrival().await;
        assert_eq!(arrival.relay, 1 - here.relay, "step {step}: to the other one that it was given");
        here = arrival;
    }
    agent.stop().await;
    assert!(relays.arrivals.try_recv().is_err(), "nobody else was dialed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_relay_is_dialed_again_wherever_it_points() {
    let mut relays = Relays::start(&[Answer::Takes; 2]);
    let agent = Running::start(relays.list(&[0]));
    let mut here = relays.arrival().await;
    for to in [1, 0] {
        let to = relays.urls[to].clone();
        here.send_away(Some(&to)).await;
        let arrival = relays.arrival().await;
        assert_eq!(arrival.relay, 0);
        here = arrival;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_closes_the_link_to_stop_is_the_last_to_be_dialed() {
    let mut relays = Relays::start(&[Answer::Takes; 3]);
    let agent = Running::start(relays.list(&[0, 1, 2]));
    let mut seen = Vec::new();
    // The first round is every relay once; then the one whose stop is the longest ago.
    for _ in 0..6 {
        let here = relays.arrival().await;
        seen.push(here.relay);
        here.link.close(CloseCode::STOPPING, "an update");
    }
    let (first, second) = seen.split_at(3);
    assert_eq!(first, second, "{seen:?}");
    let mut sorted = first.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_does_not_want_the_agent_does_not_keep_it_from_another() {
    for code in [RefusalCode::STOPPING, RefusalCode::LIMIT, RefusalCode::UNAUTHORIZED] {
        let mut relays = Relays::start(&[Answer::Refuses(code), Answer::Takes]);
        for _ in 0..4 {
            let agent = Running::start(relays.list(&[0, 1]));
            assert_eq!(relays.arrival().await.relay, 1, "{code}");
            agent.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_no_relay_wants_says_so_and_ends() {
    let relays = Relays::start(&[Answer::Refuses(RefusalCode::UNAUTHORIZED); 2]);
    let agent = Running::start(relays.list(&[0, 1]));
    let error = soon("its end", agent.end).await.expect("no panic").expect_err("nobody took it");
    assert_eq!(error.to_string(), "the relay refuses this agent: not here (unauthorized)");
}

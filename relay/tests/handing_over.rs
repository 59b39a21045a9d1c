//! What becomes of agents and sessions when one of several relays stops.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, a_relay,
    agent::TestAgent,
    client::Answer,
    closed_with,
    cluster::{TestCluster, relays},
    soon,
};
use converge_proto::rendezvous::{Goaway, RefusalCode};
use converge_relay::server::Stopped;
use converge_transport::CloseCode;
use std::{collections::HashSet, time::Duration};
use tokio::sync::mpsc;

/// Reports when an agent is told to go, and goes when it may.
fn until_told(
    number: u8,
    mut agent: TestAgent,
    told: mpsc::UnboundedSender<(u8, Goaway)>,
) -> tokio::task::JoinHandle<TestAgent> {
    tokio::spawn(async move {
        told.send((number, agent.goaway().await)).unwrap();
        agent
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_one_by_one_and_found_until_then_and_after() {
    const AGENTS: u8 = 8;
    let mut relays = relays::<2>();
    let [first, _] = &mut relays;
    // Each second one of them.
    first.config.live.drain_rate = 1;
    first.config.live.drain_timeout = Duration::from_mins(10);
    let mut cluster = TestCluster::start(relays).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let (told, mut goaways) = mpsc::unbounded_channel();
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let id = format!("a{number}");
        let agent = first.an_agent(By::Quic).wanting(&id).with_key(number).register().await;
        agents.push(until_told(number, agent, told.clone()));
        second.until(&format!("/api/v1/agents/{id}"), |answer| answer["id"] == id.as_str()).await;
    }
    first.drain();
    let (one, goaway) = soon("a word", goaways.recv()).await.unwrap();
    let mut all = HashSet::from([one]);
    let mut words = vec![goaway];

    // The others are found: not all of them were told at once.
    let mut sessions = Vec::new();
    for number in (0..AGENTS).filter(|number| *number != one) {
        let client = second.a_client_of(&format!("a{number}"), By::Quic).await;
        let mut asked = client.ask_to_connect(Duration::ZERO).await;
        match asked.answer().await {
            Answer::Connected(connected) => sessions.push(asked.into_session(connected)),
            answer => assert!(matches!(answer, Answer::Waiting(_)), "{answer:?}"),
        }
    }
    assert!(!sessions.is_empty());

    // Who was told is on the way, and who asks for it waits until it is there.
    let id = format!("a{one}");
    let mut asked = second.a_client_of(&id, By::Quic).await.ask_to_connect(Duration::ZERO).await;
    assert!(matches!(asked.answer().await, Answer::Waiting(_)));
    let moved = second.an_agent(By::Quic).wanting(&id).with_key(one).register().await;
    assert_eq!(moved.id(), id);
    let answer = loop {
        match asked.answer().await {
            Answer::Waiting(_) => {}
            answer => break answer,
        }
    };
    assert!(matches!(answer, Answer::Connected(_)), "{answer:?}");

    while all.len() < AGENTS.into() {
        let (number, goaway) = soon("a word", goaways.recv()).await.unwrap();
        assert!(all.insert(number), "{number} was told twice");
        words.push(goaway);
    }
    for goaway in words {
        assert_eq!(goaway.try_first.unwrap().as_str(), "https://relay-2.example");
    }
    // The relay ends when they have gone, long before it would have to.
    for agent in agents {
        drop(soon("a word", agent).await.unwrap());
    }
    assert_eq!(cluster.relay_mut(1).stopped().await, Stopped::Clean);
    drop((sessions, moved));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_without_others_waits_for_no_agent() {
    let mut relay = a_relay();
    relay.config.live.drain_rate = 1;
    relay.config.live.drain_timeout = Duration::from_mins(10);
    let mut cluster = TestCluster::start([relay]).await;
    let mut agents = Vec::new();
    for number in 0..3 {
        let agent = cluster.relay(1).an_agent(By::Quic).wanting_any_id().with_key(number).register().await;
        agents.push(agent);
    }
    cluster.relay(1).drain();
    assert_eq!(cluster.relay_mut(1).stopped().await, Stopped::Clean);
    for agent in agents {
        assert_eq!(
            closed_with(soon("the end of the link", agent.link.closed()).await).0,
            CloseCode::STOPPING
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_comes_to_none_of_the_others_is_not_waited_for_for_ever() {
    let mut relays = relays::<2>();
    let [first, _] = &mut relays;
    first.config.live.drain_timeout = Duration::from_secs(1);
    let mut cluster = TestCluster::start(relays).await;
    let mut agent = cluster.relay(1).an_agent(By::Quic).register().await;
    cluster.relay(2).until("/api/v1/agents/build", |answer| answer["id"] == "build").await;
    cluster.relay(1).drain();
    agent.goaway().await;
    // It stays where it is; who asks for it is told in the end, and not that the relay stops that was asked.
    let mut asked =
        cluster.relay(2).a_client_of("build", By::Quic).await.ask_to_connect(Duration::ZERO).await;
    let refused = loop {
        match asked.answer().await {
            Answer::Waiting(_) => {}
            Answer::Refused(refused) => break refused,
            other => panic!("{other:?}"),
        }
    };
    assert!([RefusalCode::AGENT_LOST, RefusalCode::NO_SUCH_ID].contains(&refused.code), "{refused:?}");
    assert_eq!(cluster.relay_mut(1).stopped().await, Stopped::Clean);
}

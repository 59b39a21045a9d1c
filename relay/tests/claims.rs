//! Who has an ID where agents claim it at several relays.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, closed_with,
    cluster::{TestCluster, relays},
    soon,
};
use converge_proto::rendezvous::Reassigned;
use converge_transport::CloseCode;

const ROUNDS: u32 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_agents_that_claim_one_id_at_once_one_has_it() {
    let cluster = TestCluster::start(relays::<2>()).await;
    let mut wins = [0; 2];
    for round in 0..ROUNDS {
        let id = format!("build-{round}");
        let claim = |relay: usize| {
            let key = u8::try_from(relay).unwrap();
            let agent = cluster.relay(relay).an_agent(By::Quic).with_key(key).wanting(&id);
            async move { agent.register().await }
        };
        let (one, two) = tokio::join!(claim(1), claim(2));
        let agents = [one, two];
        let owners: Vec<_> = (0..2).filter(|index| agents[*index].id() == id).collect();
        let [owner] = owners[..] else { panic!("{} owners of {id}", owners.len()) };
        let loser = &agents[1 - owner].registered;
        assert_eq!(loser.reassigned, Some(Reassigned::HeldByAnotherKey), "{loser:?}");
        wins[owner] += 1;
        let [one, two] = agents;
        tokio::join!(one.say_bye(), two.say_bye());
    }
    println!("{ROUNDS} IDs: relay 1 was quicker {} times, relay 2 {} times", wins[0], wins[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_comes_to_another_relay_takes_its_id_along() {
    let cluster = TestCluster::start(relays::<2>()).await;
    let mut before = cluster.relay(1).an_agent(By::Quic).register().await;
    before.ping().await;
    let mut after = cluster.relay(2).an_agent(By::WebSocket).register().await;
    assert_eq!((after.id(), after.registered.reassigned), ("build", None));
    let (code, _) = closed_with(soon("the end of the leftover", before.link.closed()).await);
    assert_eq!(code, CloseCode::REPLACED);
    // The end of the leftover is not the agent's.
    after.ping().await;
    let other = cluster.relay(1).an_agent(By::Quic).with_key(2).register().await;
    assert_eq!(other.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_dies_keeps_ids_for_their_keys() {
    let mut cluster = TestCluster::start(relays::<2>()).await;
    let agent = cluster.relay(1).an_agent(By::Quic).register().await;
    cluster.relay_mut(1).kill();
    drop(agent);
    let other = cluster.relay(2).an_agent(By::Quic).with_key(2).register().await;
    assert_eq!(other.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
    let back = cluster.relay(2).an_agent(By::Quic).register().await;
    assert_eq!((back.id(), back.registered.reassigned), ("build", None));
}

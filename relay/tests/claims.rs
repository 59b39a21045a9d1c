//! Who has an ID where agents claim it at several relays.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By,
    agent::public,
    client::Answer,
    closed_with,
    cluster::{Machine, TestCluster, relays},
    soon,
};
use converge_proto::{HostKey, rendezvous::Reassigned};
use converge_transport::CloseCode;
use etcd_client::Client;
use std::{cell::RefCell, time::Duration};
use tokio::time::Instant;

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

/// Whose the ID was for somebody who asked from then to then.
#[derive(Debug)]
struct Sighting {
    owner: HostKey,
    asked: Instant,
    answered: Instant,
}

/// Asks a relay for the owner of the ID again and again, for ever.
async fn watch(relay: &Machine, sightings: &RefCell<Vec<Sighting>>) {
    let client = relay.a_client_of("build", By::Quic).await;
    loop {
        let asked = Instant::now();
        let answer = client.ask_for_the_key().await.answer().await;
        if let Answer::Found(found) = answer {
            sightings.borrow_mut().push(Sighting { owner: found.host_key, asked, answered: Instant::now() });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until somebody has seen it.
async fn until_seen(sightings: &RefCell<Vec<Sighting>>, owner: &HostKey, since: Instant) {
    let looking = async {
        while !sightings.borrow().iter().any(|one| one.owner == *owner && one.asked >= since) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a sighting", looking).await;
}

/// A relay that is cut off from etcd, and so from what the others write, while its clients reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_ever_sees_two_owners_while_a_relay_is_cut_off() {
    const RESERVATION: Duration = Duration::from_secs(5);
    let cluster =
        TestCluster::start(relays::<2>().map(|relay| relay.with_reservations_of(RESERVATION))).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let sightings = [RefCell::default(), RefCell::default()];
    let [at_first, at_second] = &sightings;
    let scenario = async {
        let mut one = first.an_agent(By::Quic).with_key(1).register().await;
        until_seen(at_first, &public(1), Instant::now()).await;
        until_seen(at_second, &public(1), Instant::now()).await;
        cluster.wire(1).cut();
        // What is here is found as before, for a while.
        until_seen(at_first, &public(1), Instant::now()).await;
        one.ping().await;
        let two = loop {
            let two = second.an_agent(By::Quic).with_key(2).register().await;
            if two.id() == "build" {
                break two;
            }
            two.say_bye().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        until_seen(at_second, &public(2), Instant::now()).await;
        cluster.wire(1).heal();
        // It hears who the owner is.
        until_seen(at_first, &public(2), Instant::now()).await;
        let (code, _) = closed_with(soon("the end of the first owner's link", one.link.closed()).await);
        // Its relay may have to see first what it has missed.
        let again = first.an_agent(By::Quic).with_key(1).register_in_the_end().await;
        assert_eq!(again.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
        drop(two);
        code
    };
    let code = tokio::select! {
        () = watch(first, at_first) => unreachable!(),
        () = watch(second, at_second) => unreachable!(),
        code = scenario => code,
    };
    assert_eq!(code, CloseCode::REPLACED);
    let all: Vec<_> = sightings.into_iter().flat_map(RefCell::into_inner).collect();
    let of = |key: u8| all.iter().filter(move |one| one.owner == public(key));
    let last = of(1).max_by_key(|one| one.asked).unwrap();
    let first = of(2).min_by_key(|one| one.answered).unwrap();
    println!(
        "{} answers named the first owner, {} the second; between them {:?} without an owner",
        of(1).count(),
        of(2).count(),
        first.answered.saturating_duration_since(last.asked)
    );
    assert!(last.asked < first.answered, "{last:?} after {first:?}");
}

/// etcd has forgotten how it came to be as it is, before a relay that was cut off could see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_missed_what_etcd_has_compacted_reads_everything_anew() {
    let cluster = TestCluster::start(relays::<2>()).await;
    let (first, second) = (cluster.relay(1), cluster.relay(2));
    let goes = second.an_agent(By::Quic).wanting("goes").with_key(1).register().await;
    first.until("/api/v1/agents/goes", |answer| answer["id"] == "goes").await;
    cluster.wire(1).cut();
    goes.say_bye().await;
    let comes = second.an_agent(By::Quic).wanting("comes").with_key(2).register().await;
    let mut etcd = soon("etcd", Client::connect([format!("http://{}", cluster.etcd())], None)).await.unwrap();
    let gone = async {
        while !etcd.get("/test/ids/goes", None).await.unwrap().kvs().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of an ID", gone).await;
    let now = etcd.get("/test/ids/comes", None).await.unwrap().header().unwrap().revision();
    etcd.compact(now, None).await.unwrap();
    cluster.wire(1).heal_for_new_connections();
    first.until("/api/v1/agents/comes", |answer| answer["id"] == "comes").await;
    first.until("/api/v1/agents/goes", |answer| answer["status"] == 404).await;
    // It takes and gives as before.
    let here = first.an_agent(By::Quic).wanting("goes").with_key(3).register_in_the_end().await;
    assert_eq!((here.id(), here.registered.reassigned), ("goes", None));
    drop(comes);
}

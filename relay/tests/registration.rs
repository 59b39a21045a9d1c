//! Who gets which ID, how long, and in which words a registration is refused.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{
    By, a_relay,
    agent::{key, public},
    client::Answer,
    closed_with, soon,
};
use converge_proto::{
    CertificatePin,
    rendezvous::{
        Challenge, Message, Reassigned, RefusalCode, Refused, messages::Line, proof_over_challenge,
    },
};
use converge_relay::limits::MAX_SESSIONS_PER_AGENT;
use converge_transport::CloseCode;
use std::time::Duration;

on_each_carrier! {
    free_id_is_given_as_asked_over_the_exporter_alone,
    agent_without_a_wish_gets_an_id,
    wrong_proof_is_refused_in_words,
    id_of_another_key_is_not_evicted,
    same_key_takes_over_at_once_and_the_leftover_is_told,
    lost_id_stays_reserved_for_its_key,
    reservation_ends,
    goodbye_frees_the_id,
    closed_link_without_goodbye_counts_as_lost,
}

async fn free_id_is_given_as_asked_over_the_exporter_alone(by: By) {
    let relay = a_relay().start();
    let mut agent = relay.an_agent(by).wanting("build-7").register().await;
    assert_eq!((agent.id(), agent.registered.reassigned, agent.challenged), ("build-7", None, false));
    assert_eq!(agent.registered.limits.sessions, MAX_SESSIONS_PER_AGENT);
    assert_eq!(agent.registered.public_url, None);
    agent.ping().await;
    relay.stop().await;
}

#[tokio::test]
async fn agents_are_told_the_public_url_with_the_pin_that_people_need() {
    let behind_a_balancer = "https://ci.example/sub";
    let passed_on = format!("https://ci.example#{}", CertificatePin([7; 32]));
    for url in [behind_a_balancer, &passed_on] {
        let relay = a_relay().under(url).start();
        assert_eq!(relay.url.to_string(), url);
        let agent = relay.an_agent(By::Quic).register().await;
        assert_eq!(agent.registered.public_url.as_ref().map(Line::as_str), Some(url));
        relay.stop().await;
    }
}

#[tokio::test]
async fn without_tls_the_nonce_is_signed() {
    let relay = a_relay().start();
    let agent = relay.an_agent(By::Cleartext).register().await;
    assert_eq!((agent.id(), agent.challenged), ("build", true));
    relay.stop().await;
}

#[tokio::test]
async fn each_challenge_is_another_one() {
    let relay = a_relay().start();
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let (_link, mut control) = relay.an_agent(By::Cleartext).begin().await;
        let frame = soon("a challenge", control.recv.read_frame()).await.unwrap().unwrap();
        nonces.push(Challenge::from_frame(&frame).unwrap().nonce);
    }
    assert_ne!(nonces[0], nonces[1]);

    // The answer to one is none to the other.
    let (link, mut control) = relay.an_agent(By::Cleartext).begin().await;
    soon("a challenge", control.recv.read_frame()).await.unwrap();
    let replayed = proof_over_challenge(&key(1), &Challenge { nonce: nonces[0] }).unwrap();
    control.send.write_frame(&replayed.to_frame()).await.unwrap();
    let frame = soon("a refusal", control.recv.read_frame()).await.unwrap().unwrap();
    assert_eq!(Refused::from_frame(&frame).unwrap().code, RefusalCode::BAD_PROOF);
    assert_eq!(closed_with(soon("the close", link.closed()).await).0, CloseCode::PROTOCOL_VIOLATION);
    relay.stop().await;
}

async fn agent_without_a_wish_gets_an_id(by: By) {
    let relay = a_relay().start();
    let one = relay.an_agent(by).with_key(1).wanting_any_id().register().await;
    let two = relay.an_agent(by).with_key(2).wanting_any_id().register().await;
    assert_ne!(one.id(), two.id());
    assert_eq!((one.registered.reassigned, two.registered.reassigned), (None, None));
    relay.stop().await;
}

async fn wrong_proof_is_refused_in_words(by: By) {
    let relay = a_relay().start();
    let (link, refused) = relay.an_agent(by).signing_with(2).try_register().await.err().unwrap();
    let words = "the proof of the host key is not valid for this connection";
    assert_eq!((refused.code, refused.text.as_str()), (RefusalCode::BAD_PROOF, words));
    let closed = closed_with(soon("the close", link.closed()).await);
    assert_eq!(closed, (CloseCode::PROTOCOL_VIOLATION, words.to_owned()));
    // Nothing was given away: the ID is free.
    assert_eq!(relay.an_agent(by).with_key(3).register().await.id(), "build");
    relay.stop().await;
}

async fn id_of_another_key_is_not_evicted(by: By) {
    let relay = a_relay().start();
    let mut first = relay.an_agent(by).with_key(1).register().await;
    let newcomer = relay.an_agent(by).with_key(2).register().await;
    assert_ne!(newcomer.id(), "build");
    assert_eq!(newcomer.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
    first.ping().await;
    let client = relay.a_client_of("build", by).await;
    let Answer::Found(found) = client.ask_for_the_key().await.answer().await else { panic!("not found") };
    assert_eq!(found.host_key, public(1));
    relay.stop().await;
}

async fn same_key_takes_over_at_once_and_the_leftover_is_told(by: By) {
    let relay = a_relay().start();
    let leftover = relay.an_agent(by).register().await;
    let mut again = relay.an_agent(by).register().await;
    assert_eq!((again.id(), again.registered.reassigned), ("build", None));
    let closed = closed_with(soon("the close", leftover.link.closed()).await);
    assert_eq!(closed, (CloseCode::REPLACED, String::new()));
    // The end of the leftover must not take the ID from its successor.
    again.ping().await;
    let session = relay.connect("build", by).await.unwrap();
    assert_eq!(session.connected.host_key, public(1));
    relay.stop().await;
}

async fn lost_id_stays_reserved_for_its_key(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    drop(agent);
    // Whether or not the relay has seen the loss yet: the ID is not to be had with another key.
    let other = relay.an_agent(by).with_key(2).register().await;
    assert_eq!(other.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
    assert_eq!(relay.an_agent(by).register().await.id(), "build");
    relay.stop().await;
}

async fn reservation_ends(by: By) {
    let relay = a_relay().with_reservations_of(Duration::from_millis(1)).start();
    drop(relay.an_agent(by).register().await);
    // As many tries as it takes for the relay to see the loss.
    while relay.an_agent(by).with_key(2).register().await.registered.reassigned.is_some() {}
    relay.stop().await;
}

async fn goodbye_frees_the_id(by: By) {
    let relay = a_relay().start();
    relay.an_agent(by).register().await.say_bye().await;
    let other = relay.an_agent(by).with_key(2).register().await;
    assert_eq!((other.id(), other.registered.reassigned), ("build", None));
    relay.stop().await;
}

async fn closed_link_without_goodbye_counts_as_lost(by: By) {
    let relay = a_relay().start();
    let agent = relay.an_agent(by).register().await;
    agent.link.finish(CloseCode::DONE, "").await;
    let other = relay.an_agent(by).with_key(2).register().await;
    assert_eq!(other.registered.reassigned, Some(Reassigned::HeldByAnotherKey));
    relay.stop().await;
}

use super::*;
use crate::access::Grant;
use crate::peer::Peer;
use converge_proto::{
    HostKey,
    rendezvous::{AgentInfo, LinkNumber, SessionKind, Status, messages::Name},
};
use converge_transport::{Carrier, Direction, Meter};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};

fn host_key(seed: u8) -> HostKey {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
    HostKey::new(PrivateKey::new(pair, "").unwrap().public_key()).unwrap()
}

fn peer() -> Peer {
    Peer::new("192.0.2.7:5000".parse().unwrap(), Carrier::Quic)
}

fn agent(number: u64, key: u8) -> NewAgent {
    let (id, info) = ("build".parse().unwrap(), AgentInfo::default());
    NewAgent {
        number: LinkNumber(number),
        id,
        host_key: host_key(key),
        info,
        peer: peer(),
        grant: Grant::default(),
    }
}

fn session(number: u64) -> NewSession {
    let (id, software) = ("build".parse().unwrap(), Name::new("ssh"));
    NewSession { number, id, kind: SessionKind::Raw, software, peer: peer(), token: None, is_resumed: false }
}

fn happenings(directory: &Directory) -> Vec<Happening> {
    directory.journal().since(0, 100).events.iter().map(|event| event.what.clone()).collect()
}

fn id() -> Id {
    "build".parse().unwrap()
}

#[test]
fn agent_that_moves_to_another_link_has_never_gone() {
    let directory = Directory::default();
    let first = directory.enter(agent(1, 1));
    first.tell_status(&Status { users: 2, ..Status::default() });
    let since = first.entry().since;
    let second = directory.enter(agent(2, 1));
    drop(first);
    assert_eq!(directory.counts(), (1, 0));
    assert_eq!((second.entry().since, second.entry().status().unwrap().users), (since, 2));
    drop(second);
    assert_eq!(directory.counts(), (0, 0));
    let carrier = Carrier::Quic;
    assert_eq!(
        happenings(&directory),
        [
            Happening::AgentRegistered { id: id(), carrier },
            Happening::AgentStatus { id: id() },
            Happening::AgentMoved { id: id(), carrier },
            Happening::AgentGone { id: id(), reason: "its link was lost".to_owned() },
        ]
    );
}

#[test]
fn same_id_with_another_key_is_another_agent() {
    let directory = Directory::default();
    let first = directory.enter(agent(1, 1));
    first.tell_status(&Status::default());
    let second = directory.enter(agent(2, 2));
    assert!(second.entry().status().is_none());
    assert!(matches!(happenings(&directory)[2], Happening::AgentRegistered { .. }));
}

#[tokio::test]
async fn bytes_of_sessions_add_up_to_those_of_the_agent() {
    let directory = Directory::default();
    let agent = directory.enter(agent(1, 1));
    let mut first = directory.begin(session(1));
    let second = directory.begin(session(2));
    first.entry().traffic.pass(Direction::Forward, 10).await;
    second.entry().traffic.pass(Direction::Backward, 5).await;
    assert_eq!((agent.entry().bytes(), agent.entry().session_count()), ((10, 5), 2));
    first.because("done");
    drop(first);
    assert_eq!((agent.entry().bytes(), agent.entry().session_count()), ((10, 5), 1));
    let moved = directory.enter(self::agent(2, 1));
    assert_eq!(moved.entry().bytes().0, 10);
    let ended =
        happenings(&directory).into_iter().find(|what| matches!(what, Happening::SessionEnded { .. }));
    assert!(
        matches!(ended, Some(Happening::SessionEnded { session: 1, to_agent_bytes: 10, reason, .. }) if reason == "done")
    );
}

#[test]
fn population_is_by_carrier() {
    let directory = Directory::default();
    let _agent = directory.enter(agent(1, 1));
    let peer = Peer::new("192.0.2.7:5000".parse().unwrap(), Carrier::WebSocket);
    let _sessions =
        [session(1), session(2)].map(|session| directory.begin(NewSession { peer: peer.clone(), ..session }));
    let population = directory.population();
    let on = |carrier| (population.agents_on(carrier), population.sessions_on(carrier));
    assert_eq!((on(Carrier::Quic), on(Carrier::WebSocket)), ((1, 0), (0, 2)));
}

#[test]
fn agents_are_told_in_pages() {
    let directory = Directory::default();
    let names = ["a", "b", "c"];
    let _stays: Vec<_> = names
        .iter()
        .zip(1..)
        .map(|(name, number)| directory.enter(NewAgent { id: name.parse().unwrap(), ..agent(number, 1) }))
        .collect();
    let ids = |page: Vec<Arc<AgentEntry>>| page.iter().map(|agent| agent.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(directory.agents(None, 2)), ["a", "b"]);
    assert_eq!(ids(directory.agents(Some(&"b".parse().unwrap()), 2)), ["c"]);
}

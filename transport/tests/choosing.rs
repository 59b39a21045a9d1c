//! Dialing several relays of which any will do.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{Acceptor, Certificate, loopback, some_id, soon, url};
use converge_proto::{RelayUrl, RelayUrls};
use converge_transport::{
    Carrier, CloseCode, DialError, DialOptions, Link, RelayMemory, RelayPlace, Role, dial_any, quic,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

/// A relay that takes links, on QUIC alone or on WebSocket alone.
struct Relay {
    url: RelayUrl,
    _accepting: JoinHandle<()>,
}

impl Relay {
    fn on_quic() -> Self {
        let certificate = Certificate::new();
        let endpoint = quic::listen(loopback(), &certificate.identity, quic::MAX_STREAMS_TO_RELAY).unwrap();
        let url = url("quic", endpoint.local_addr().unwrap()).with_pin(Some(certificate.pin()));
        let accepting = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(incoming) = endpoint.accept().await {
                taken.push(tokio::spawn(async move { incoming.await.ok()?.closed().await.into() }));
                taken.retain(|link: &JoinHandle<Option<_>>| !link.is_finished());
            }
        });
        Self { url, _accepting: accepting }
    }

    async fn on_websocket() -> Self {
        let acceptor = Acceptor::cleartext().await;
        let url = url("ws", acceptor.address());
        let accepting = tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                taken.push(acceptor.agents_link().await);
            }
        });
        Self { url, _accepting: accepting }
    }

    async fn on(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Quic => Self::on_quic(),
            Carrier::WebSocket => Self::on_websocket().await,
        }
    }
}

const CARRIERS: [Carrier; 2] = [Carrier::Quic, Carrier::WebSocket];

/// Nobody answers there: on UDP nothing is said, on TCP connections are taken by the kernel and by nobody else.
async fn silent() -> (SocketAddr, TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind(loopback()).await.unwrap();
        let address = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (address, tcp, udp);
        }
    }
}

/// Nobody listens there.
async fn dead() -> SocketAddr {
    silent().await.0
}

fn list(relays: impl IntoIterator<Item = RelayUrl>) -> RelayUrls {
    RelayUrls::new(relays).unwrap()
}

/// Options that know that this relay goes first.
fn preferring(relay: &RelayUrl) -> DialOptions {
    let options = DialOptions::default();
    options.relays.prefer(&RelayPlace::from(relay.clone()));
    options
}

async fn dial(relays: &RelayUrls, options: &DialOptions) -> Result<Link, DialError> {
    soon("an answer", dial_any(relays, options, Role::Agent)).await
}

fn relay_of(link: &Link) -> RelayUrl {
    link.place().unwrap().relay.clone()
}

#[tokio::test]
async fn relay_that_is_dead_does_not_keep_anybody_from_the_next() {
    for carrier in CARRIERS {
        let alive = Relay::on(carrier).await;
        for scheme in ["https", "ws"] {
            let dead = url(scheme, dead().await);
            let relays = list([dead.clone(), alive.url.clone()]);
            let options = preferring(&dead);
            let link = dial(&relays, &options).await.unwrap();
            assert_eq!(relay_of(&link), alive.url);
            let place = link.place().unwrap();
            let port = place.address.unwrap().port();
            assert_eq!(port, alive.url.port(), "the address, too, is that of the one that answers");
        }
    }
}

#[tokio::test]
async fn relay_that_is_silent_is_not_waited_for() {
    for carrier in CARRIERS {
        let (address, _tcp, _udp) = silent().await;
        let alive = Relay::on(carrier).await;
        for scheme in ["https", "quic", "wss", "ws"] {
            let silent = url(scheme, address);
            let relays = list([silent.clone(), alive.url.clone()]);
            let begun = Instant::now();
            let link = dial(&relays, &preferring(&silent)).await.unwrap();
            assert_eq!(relay_of(&link), alive.url, "{scheme}");
            // A carrier alone would be waited for ten seconds.
            assert!(begun.elapsed() < Duration::from_secs(8), "{scheme}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn load_of_many_fresh_dials_is_shared() {
    for carrier in CARRIERS {
        let relays = [Relay::on(carrier).await, Relay::on(carrier).await, Relay::on(carrier).await];
        let urls = list(relays.iter().map(|relay| relay.url.clone()));
        let mut dials = BTreeMap::new();
        for _ in 0..100 {
            let link = dial(&urls, &DialOptions::default()).await.unwrap();
            *dials.entry(relay_of(&link).to_string()).or_insert(0) += 1;
            link.close(CloseCode::DONE, "");
        }
        // A fair one of a third each is below 10 once in ten million times.
        assert_eq!(dials.len(), 3, "{dials:?}");
        assert!(dials.values().all(|count| *count >= 10), "{dials:?}");
    }
}

#[tokio::test]
async fn who_dials_again_is_back_where_it_was_until_that_relay_stops() {
    for carrier in CARRIERS {
        let relays = [Relay::on(carrier).await, Relay::on(carrier).await, Relay::on(carrier).await];
        let urls = list(relays.iter().map(|relay| relay.url.clone()));
        let options = DialOptions { relays: Arc::new(RelayMemory::seeded(1)), ..DialOptions::default() };
        let first = dial(&urls, &options).await.unwrap();
        options.relays.prefer(first.place().unwrap());
        for _ in 0..10 {
            assert_eq!(relay_of(&dial(&urls, &options).await.unwrap()), relay_of(&first));
        }
        // It stops, then the next, then the last: they are asked in that order again, for there is no other.
        options.relays.leave(first.place().unwrap());
        let second = dial(&urls, &options).await.unwrap();
        assert_ne!(relay_of(&second), relay_of(&first));
        options.relays.leave(second.place().unwrap());
        let third = dial(&urls, &options).await.unwrap();
        assert!(![relay_of(&first), relay_of(&second)].contains(&relay_of(&third)));
        options.relays.leave(third.place().unwrap());
        assert_eq!(relay_of(&dial(&urls, &options).await.unwrap()), relay_of(&first));
    }
}

#[tokio::test]
async fn only_relay_is_dialed_whatever_it_has_said() {
    for carrier in CARRIERS {
        let relay = Relay::on(carrier).await;
        let urls = RelayUrls::from(relay.url.clone());
        let options = DialOptions::default();
        for _ in 0..3 {
            let link = dial(&urls, &options).await.unwrap();
            options.relays.leave(link.place().unwrap());
        }
    }
}

#[tokio::test]
async fn when_none_answers_each_is_named_with_what_it_met() {
    let (address, _tcp, _udp) = silent().await;
    let gone = dead().await;
    let relays: RelayUrls = format!("ws://{gone}, https://relay.invalid, quic://{address}").parse().unwrap();
    let error = dial(&relays, &DialOptions::default()).await.unwrap_err();
    let DialError::Several { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 3);
    let words = error.to_string();
    assert!(
        words.starts_with(&format!("none of the 3 relays can be used: {gone}: Connection refused")),
        "{words}"
    );
    let rest = format!("; relay.invalid: its name cannot be resolved; {address}: no answer");
    assert!(words.ends_with(&rest), "{words}");
    assert!(error.may_pass());
}

#[tokio::test]
async fn one_relay_fails_in_the_same_words_as_without_a_list() {
    let relay = url("ws", dead().await);
    let options = DialOptions::default();
    let alone = soon("an answer", converge_transport::dial(&relay, &options, Role::Agent)).await.unwrap_err();
    let listed = dial(&relay.into(), &options).await.unwrap_err();
    assert_eq!(alone.to_string(), listed.to_string());
    assert_eq!(alone.advice(), listed.advice());
}

/// The session of a raw client begins with its link, so two links would be two sessions.
#[tokio::test]
async fn raw_clients_dial_one_relay_at_a_time() {
    let (address, tcp, _udp) = silent().await;
    let other = TcpListener::bind(loopback()).await.unwrap();
    let slow = url("ws", address);
    let relays = list([slow.clone(), url("ws", other.local_addr().unwrap())]);
    let id = some_id();
    let options = preferring(&slow);
    let dialing = dial_any(&relays, &options, Role::RawClient(&id, None));
    tokio::pin!(dialing);
    let stream = tokio::select! {
        accepted = tcp.accept() => accepted.unwrap().0,
        link = &mut dialing => panic!("{link:?}"),
    };
    let nobody = async {
        tokio::select! {
            _ = other.accept() => panic!("the next relay was dialed before the first had failed"),
            link = &mut dialing => panic!("{link:?}"),
        }
    };
    // Three times as long as anybody else would wait.
    assert!(tokio::time::timeout(Duration::from_millis(1500), nobody).await.is_err());
    drop(stream);
    tokio::select! {
        accepted = soon("the next relay", other.accept()) => drop(accepted.unwrap()),
        link = &mut dialing => panic!("{link:?}"),
    }
}

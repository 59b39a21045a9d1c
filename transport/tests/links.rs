//! What links do besides carrying streams: counting, moving to another socket, hearing that the peer was restarted.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use bytes::Bytes;
use common::{Certificate, Ends, loopback, soon, url};
use converge_proto::{
    Frame,
    rendezvous::{Message, Ping},
};
use converge_transport::{
    DialOptions, Link, LinkError, Role, dial,
    quic::{MAX_STREAMS_TO_RELAY, listen},
};
use std::net::SocketAddr;

fn ping() -> Frame {
    Ping { token: 7 }.to_frame()
}

#[rustfmt::skip]
on_each_wire! {
    quic Quic: [what_comes_in_is_counted, rebinding_keeps_the_link]
    agents_websocket AgentsWebSocket: [what_comes_in_is_counted, rebinding_keeps_the_link]
    clients_websocket ClientsWebSocket: [what_comes_in_is_counted, rebinding_keeps_the_link]
}

async fn what_comes_in_is_counted(ends: Ends) {
    const MUCH: usize = 100_000;
    let (mut near, mut far) = ends.stream().await;
    let (near_before, far_before) = (ends.near.received_bytes(), ends.far.received_bytes());
    near.send.write_chunk(Bytes::from(vec![7; MUCH])).await.unwrap();
    near.send.flush().await.unwrap();
    let mut received = 0;
    while received < MUCH {
        received += soon("bytes", far.recv.read_chunk()).await.unwrap().unwrap().len();
    }
    let (near_after, far_after) = (ends.near.received_bytes(), ends.far.received_bytes());
    assert!(far_after - far_before >= MUCH as u64, "{far_before} {far_after}");
    assert!(
        near_after - near_before < MUCH as u64,
        "what goes out does not count: {near_before} {near_after}"
    );
    far.send.write_frame(&ping()).await.unwrap();
    soon("a frame", near.recv.read_frame()).await.unwrap();
    assert!(ends.near.received_bytes() > near_before);
}

async fn rebinding_keeps_the_link(ends: Ends) {
    let (mut near, mut far) = ends.stream().await;
    for link in [&ends.near, &ends.far] {
        link.rebind().unwrap();
    }
    near.send.write_frame(&ping()).await.unwrap();
    assert_eq!(soon("a frame", far.recv.read_frame()).await, Ok(Some(ping())));
}

#[tokio::test]
async fn rebound_quic_link_comes_from_another_port() {
    let certificate = Certificate::new();
    let endpoint = listen(loopback(), &certificate.identity, MAX_STREAMS_TO_RELAY).unwrap();
    let url = url("quic", endpoint.local_addr().unwrap()).with_pin(Some(certificate.pin()));
    let options = DialOptions::default();
    let accepting = async { endpoint.accept().await.unwrap().await.unwrap() };
    let (near, far) = tokio::join!(dial(&url, &options, Role::Agent), accepting);
    let near = near.unwrap();
    let before = far.remote_address();
    near.rebind().unwrap();
    let mut stream = near.open_stream().await.unwrap();
    stream.send.write_frame(&ping()).await.unwrap();
    let mut stream = soon("a stream", Link::quic(far.clone(), None).accept_stream()).await.unwrap();
    assert_eq!(soon("a frame", stream.recv.read_frame()).await, Ok(Some(ping())));
    assert_ne!(far.remote_address(), before);
}

/// Accepts links in a runtime of its own, which can die without a word to anybody.
fn relay_process(address: SocketAddr, certificate: &Certificate) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let endpoint = loop {
        match listen(address, &certificate.identity, MAX_STREAMS_TO_RELAY) {
            Ok(endpoint) => break endpoint,
            // The one before is not quite dead.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let address = endpoint.local_addr().unwrap();
    runtime.spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            let link = Link::quic(incoming.await.unwrap(), None);
            let mut stream = link.accept_stream().await.unwrap();
            while let Ok(Some(frame)) = stream.recv.read_frame().await {
                stream.send.write_frame(&frame).await.unwrap();
            }
            held.push((link, stream));
        }
    });
    (runtime, address)
}

#[tokio::test]
async fn restarted_relay_disowns_the_links_of_its_predecessor_at_once() {
    let certificate = Certificate::new();
    let (first, address) = relay_process(loopback(), &certificate);
    let url = url("quic", address).with_pin(Some(certificate.pin()));
    let link = soon("a link", dial(&url, &DialOptions::default(), Role::Agent)).await.unwrap();
    let mut stream = link.open_stream().await.unwrap();
    stream.send.write_frame(&ping()).await.unwrap();
    assert_eq!(soon("an echo", stream.recv.read_frame()).await, Ok(Some(ping())));

    first.shutdown_background();
    let (second, _) = relay_process(address, &certificate);
    stream.send.write_frame(&ping()).await.unwrap();
    // Far below the idle timeout of 45 s.
    let end = soon("a reset", link.closed()).await;
    assert_eq!(end, LinkError::Restarted);
    assert!(end.to_string().contains("restarted"), "{end}");
    second.shutdown_background();
}

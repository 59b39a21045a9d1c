//! A process does not dial without end. A program of its own: the limit is one for all of a process.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod common;

use common::{loopback, soon, url};
use converge_transport::{DialOptions, Role, dial};
use futures_util::FutureExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn eight_dials_are_in_progress_and_the_ninth_waits_for_its_turn() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let relay = url("ws", listener.local_addr().unwrap());
    let dial_once = || {
        let relay = relay.clone();
        tokio::spawn(async move { dial(&relay, &DialOptions::default(), Role::Agent).await })
    };
    let mut dials: Vec<_> = (0..12).map(|_| dial_once()).collect();
    let mut accepted = Vec::new();
    for _ in 0..8 {
        accepted.push(soon("a connection", listener.accept()).await.unwrap());
    }
    // The others have had their chance as well: on loopback a connection is there as soon as it is asked for.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(listener.accept().now_or_never().is_none(), "a ninth one");
    dials.swap_remove(0).abort();
    soon("the ninth", listener.accept()).await.unwrap();
    for dial in dials {
        dial.abort();
    }
}

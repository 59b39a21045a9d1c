//! A UDP load balancer that reads no connection IDs, for one client.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{net::UdpSocket, task::JoinSet};

use crate::common::loopback;

/// What relays see of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sources {
    /// One address at all of them, as when the balancer only rewrites destinations.
    Same,
    /// One address for each of them, as nginx does it.
    EachItsOwn,
}

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    relays: [SocketAddr; 2],
    /// The one that gets what comes. What the other one sends goes nowhere.
    route: AtomicUsize,
    changes_with_next_answer: AtomicBool,
    client: Mutex<Option<SocketAddr>>,
    answers: [AtomicUsize; 2],
}

impl Balancer {
    pub(crate) async fn before(relays: [SocketAddr; 2], sources: Sources) -> Self {
        let front = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let address = front.local_addr().unwrap();
        let first = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let second = match sources {
            Sources::Same => first.clone(),
            Sources::EachItsOwn => Arc::new(UdpSocket::bind(loopback()).await.unwrap()),
        };
        let state = Arc::new(State {
            relays,
            route: AtomicUsize::new(0),
            changes_with_next_answer: AtomicBool::new(false),
            client: Mutex::default(),
            answers: Default::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(inwards(state.clone(), front.clone(), [first.clone(), second.clone()]));
        if sources == Sources::EachItsOwn {
            tasks.spawn(outwards(state.clone(), second, front.clone()));
        }
        tasks.spawn(outwards(state.clone(), first, front));
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn route_to(&self, relay: usize) {
        self.state.route.store(relay, Ordering::SeqCst);
    }

    /// The other relay gets what comes after the next answer.
    pub(crate) fn change_with_next_answer(&self) {
        self.state.changes_with_next_answer.store(true, Ordering::SeqCst);
    }

    /// Datagrams of this relay that went to the client.
    pub(crate) fn answers_of(&self, relay: usize) -> usize {
        self.state.answers[relay].load(Ordering::SeqCst)
    }
}

async fn inwards(state: Arc<State>, front: Arc<UdpSocket>, upstreams: [Arc<UdpSocket>; 2]) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        *state.client.lock().unwrap() = Some(client);
        let route = state.route.load(Ordering::SeqCst);
        let _ = upstreams[route].send_to(&buffer[..length], state.relays[route]).await;
    }
}

async fn outwards(state: Arc<State>, upstream: Arc<UdpSocket>, front: Arc<UdpSocket>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok((length, from)) = upstream.recv_from(&mut buffer).await else { continue };
        let route = state.route.load(Ordering::SeqCst);
        let client = *state.client.lock().unwrap();
        let (true, Some(client)) = (from == state.relays[route], client) else { continue };
        if state.changes_with_next_answer.swap(false, Ordering::SeqCst) {
            state.route.store(1 - route, Ordering::SeqCst);
        }
        state.answers[route].fetch_add(1, Ordering::SeqCst);
        let _ = front.send_to(&buffer[..length], client).await;
    }
}

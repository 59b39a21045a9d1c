//! A relay between two streams: an agent's and a client's.

use crate::{
    common::{Ends, Wire},
    harness::Work,
    wire::{self, runtime},
};
use converge_transport::{Direction, Meter, Stream, copy_bidirectional};
use tokio::runtime::Runtime;

/// Lets everything pass.
struct Free;

impl Meter for Free {
    async fn pass(&self, _: Direction, _: usize) {}
}

pub(crate) fn bulk() -> Work {
    between(|runtime, agent, client| runtime.block_on(wire::bulk(&mut agent.send, &mut client.recv)))
}

pub(crate) fn keys() -> Work {
    between(|runtime, agent, client| runtime.block_on(wire::keys(client, agent)))
}

fn between(work: fn(&Runtime, &mut Stream, &mut Stream)) -> Work {
    let runtime = runtime();
    let agents = runtime.block_on(Ends::of(Wire::AgentsWebSocket));
    let clients = runtime.block_on(Ends::of(Wire::ClientsWebSocket));
    let (mut agent, mut to_agent) = runtime.block_on(agents.stream());
    let (mut client, mut to_client) = runtime.block_on(clients.stream());
    runtime.spawn(async move { copy_bidirectional(&mut to_client, &mut to_agent, &Free).await });
    Box::new(move || {
        let _links = (&agents, &clients);
        work(&runtime, &mut agent, &mut client);
    })
}

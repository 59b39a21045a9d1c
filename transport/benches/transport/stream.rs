//! One stream: WebSocket's framing, and the multiplexer's above it.

use crate::{
    common::{Ends, Wire},
    harness::Work,
    wire::{self, runtime},
};
use converge_transport::Stream;

pub(crate) fn clients_bulk() -> Work {
    bulk(Wire::ClientsWebSocket)
}

pub(crate) fn clients_keys() -> Work {
    keys(Wire::ClientsWebSocket)
}

pub(crate) fn agents_bulk() -> Work {
    bulk(Wire::AgentsWebSocket)
}

pub(crate) fn agents_keys() -> Work {
    keys(Wire::AgentsWebSocket)
}

fn bulk(wire: Wire) -> Work {
    over(wire, |runtime, near, far| runtime.block_on(wire::bulk(&mut near.send, &mut far.recv)))
}

fn keys(wire: Wire) -> Work {
    over(wire, |runtime, near, far| runtime.block_on(wire::keys(near, far)))
}

fn over(wire: Wire, work: fn(&tokio::runtime::Runtime, &mut Stream, &mut Stream)) -> Work {
    let runtime = runtime();
    let ends = runtime.block_on(Ends::of(wire));
    let (mut near, mut far) = runtime.block_on(ends.stream());
    Box::new(move || {
        // The link is that of the streams.
        let _ends = &ends;
        work(&runtime, &mut near, &mut far);
    })
}

//! What streams, sessions and copying cost, with both ends of everything in this process: `cargo bench --bench transport`.
//!
//! Over WebSocket only: what QUIC does follows the clock, so it would not be the same twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a step that cannot be taken ends the measurement"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod copy;
#[path = "../../../proto/benches/proto/harness.rs"]
mod harness;
mod session;
mod stream;
mod wire;

use harness::Piece;
use wire::{BULK, ROUND_TRIPS};

const MIB: u64 = BULK as u64;
const KEYS: u64 = 2 * ROUND_TRIPS as u64;

const PIECES: &[Piece] = &[
    Piece { name: "client's WebSocket/1 MiB to the relay", bytes: MIB, prepare: stream::clients_bulk },
    Piece { name: "client's WebSocket/100 keys and echoes", bytes: KEYS, prepare: stream::clients_keys },
    Piece { name: "agent's WebSocket/1 MiB to the relay", bytes: MIB, prepare: stream::agents_bulk },
    Piece { name: "agent's WebSocket/100 keys and echoes", bytes: KEYS, prepare: stream::agents_keys },
    Piece { name: "relay's copy/1 MiB from agent to client", bytes: MIB, prepare: copy::bulk },
    Piece { name: "relay's copy/100 keys and echoes", bytes: KEYS, prepare: copy::keys },
    Piece { name: "session/1 MiB over a WebSocket", bytes: MIB, prepare: session::bulk },
    Piece { name: "session/100 keys and echoes", bytes: KEYS, prepare: session::keys },
];

fn main() {
    harness::run(PIECES);
}

//! What the codecs and rules cost: `cargo bench --bench proto`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a step that cannot be taken ends the measurement"
)]

mod frame;
mod harness;
mod session;

use harness::Piece;

const PIECES: &[Piece] = &[
    Piece { name: "frame/encode 1000 of 64 bytes", bytes: 64_000, prepare: frame::encode },
    Piece { name: "frame/decode 1000 of 64 bytes", bytes: 64_000, prepare: frame::decode },
    Piece { name: "message/connect, both ways", bytes: 0, prepare: frame::connect },
    Piece { name: "rules of a session/1 MiB", bytes: session::BULK as u64, prepare: session::bulk },
    Piece { name: "rules of a session/1000 keys and echoes", bytes: 2000, prepare: session::keys },
];

fn main() {
    harness::run(PIECES);
}

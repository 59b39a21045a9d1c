//! Real programs against real Converge processes.
//!
//! This crate sees the other crates as their programs: it starts them, runs OpenSSH and others against them, and looks at
//! what comes out. Only the [`simulation`] has rules of theirs as code, and a [`crowd`] their links and sessions, so that they
//! have the real ones. Start with [`Setup`],
//! which is a relay, an agent and a key in a directory of their own, or with [`Lab`], which puts them on hosts with an
//! internet between them.
//!
//! `src/bin/demo.rs` is `make demo`, `src/bin/bench.rs` is `make bench`, `tests/stories.rs` and
//! `tests/lab.rs` are the tests.

pub mod acme;
pub mod authority;
pub mod bench;
pub mod cluster;
pub mod crowd;
pub mod files;
pub mod lab;
pub mod loopback;
mod other_clients;
pub mod process;
pub mod programs;
pub mod root;
pub mod setup;
pub mod simulation;
pub mod sshd;
pub mod terminal;

pub use lab::Lab;
pub use process::Process;
pub use setup::{Agent, Carrier, Relay, Setup};
pub use sshd::Sshd;
pub use terminal::Terminal;

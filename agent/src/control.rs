//! The control socket: how programs inside a session talk to the agent.
//!
//! One request per connection: a line of JSON each way. Where it is, is the system's business: see
//! `platform::control_socket`.

pub mod client;
pub mod messages;
pub mod server;

pub use client::{ControlError, request};
pub use messages::{Answer, Envelope, Request, Status};
pub use server::{Control, ControlServer};

/// The longest line either way, in bytes. A status with hundreds of users has less.
const MAX_LINE_BYTES: u64 = 256 * 1024;

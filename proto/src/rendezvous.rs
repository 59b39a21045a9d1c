//! Connect, register, keepalive: what agents, relays and clients say to each other, and the rules of registration.
//!
//! * [`messages`]: the payload of every control frame.
//! * [`refusal`]: why a relay says no, as numbers and names.
//! * [`handshake`]: the relay's side of one agent's registration, as a state machine.
//! * [`status`]: what a registered agent tells of itself, and is asked by the relay's operator.
//! * [`token`]: what peers show to be let in.
//! * [`id_table`]: who holds which ID, as a state machine.

pub mod handshake;
pub mod id_table;
pub mod messages;
pub mod refusal;
pub mod status;
pub mod token;

pub use crate::message::Message;
pub use handshake::{
    HandshakeStep, RegisterHandshake, VerifiedAgent, proof_over_challenge, proof_over_exporter,
};
pub use id_table::{Claim, IdTable, LinkNumber, SecretHash};
pub use messages::{
    AgentInfo, Bye, Challenge, ClientInfo, Connect, Connected, Found, Goaway, Incoming, Limits, Lookup, Ping,
    Pong, Proof, Reassigned, Refused, Register, Registered, SessionKind, Waiting,
};
pub use refusal::RefusalCode;
pub use status::{ExpiryWarning, Request, Response, Status};
pub use token::{InvalidToken, Token};

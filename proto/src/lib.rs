//! Converge's wire formats and rules.
//!
//! This crate does no I/O, owns no clock and draws no random numbers: it is codecs and state machines that are
//! fed bytes and instants. Everything a peer can send is checked here once and is a type from there on.
//!
//! Start with [`Frame`], the one shape everything on the wire has, and with [`rendezvous`], the messages between
//! agent, relay and client and the rules of registration. [`session`] is what makes a session outlive its links. `docs/protocol.md` is the specification in words.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod address;
pub mod backoff;
pub mod cluster;
pub mod expiry;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod host_key;
pub mod id;
pub mod keepalive;
pub mod message;
pub mod relay_number;
pub mod relay_url;
pub mod relay_urls;
pub mod rendezvous;
pub mod session;
pub mod text;
pub mod varint;
pub mod version;

pub use address::Address;
pub use backoff::Backoff;
pub use frame::{Frame, FrameType};
pub use host_key::{Fingerprint, HostKey};
pub use id::Id;
pub use keepalive::Keepalive;
pub use relay_number::RelayNumber;
pub use relay_url::{CarrierChoice, CertificatePin, RelayUrl};
pub use relay_urls::RelayUrls;
pub use text::Text;
pub use varint::VarInt;

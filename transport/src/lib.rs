//! Links and streams over QUIC and WebSocket.
//!
//! Callers see [`Link`] (one connection of an agent or a client to a relay) and [`Stream`] (one bidirectional byte
//! stream on it); which carrier is below shows only in [`Link::carrier`]. [`dial`](dial::dial) makes a link to a
//! relay's URL; [`quic::listen`] and [`websocket::accepted`] are the accepting ends.
//!
//! [`session`] lets a session outlive the streams it runs over.
//!
//! This crate knows nothing of IDs, registration or relays beyond the frames it reads and writes for others.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod chunk;
pub mod close;
pub mod copy;
pub mod dial;
pub mod link;
pub mod names;
pub mod network_change;
pub mod proxy;
pub mod quic;
mod received;
pub mod schedule;
pub mod session;
pub mod stream;
pub mod websocket;

pub use close::{CloseCode, LinkError, StreamError};
pub use copy::{Direction, LocalCopyError, Meter, copy_bidirectional, copy_local};
pub use dial::{
    CarrierMemory, ClientCertificate, DialError, DialOptions, RelayMemory, RelayPlace, Role, dial, dial_any,
    probe,
};
pub use link::{Carrier, Link, Room};
pub use network_change::NetworkChanges;
pub use proxy::{InvalidProxyUrl, ProxyChoice, ProxyUrl};
pub use schedule::{QuicRetry, sleep_until};
pub use session::{Attachment, SessionCopyError, SessionIo, SessionLink, copy_session, read_ahead};
pub use stream::{RecvHalf, SendHalf, Stream};

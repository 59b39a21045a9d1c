//! Accepting connections: QUIC on UDP, HTTP and WebSocket on TCP.

pub(crate) mod quic;
pub(crate) mod tcp;

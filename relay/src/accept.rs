//! Accepting connections: QUIC on UDP, HTTP and WebSocket on TCP.

pub(crate) mod forwarded;
pub(crate) mod metrics;
pub(crate) mod proxy_protocol;
pub(crate) mod quic;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod tcp;

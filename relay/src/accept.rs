//! Accepting connections: QUIC on UDP, HTTP and WebSocket on TCP.

pub(crate) mod forwarded;
pub(crate) mod metrics;
pub(crate) mod proxy_protocol;
pub(crate) mod quic;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod tcp;

use std::time::Duration;

/// After an accept that failed for want of descriptors or memory: time for some to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

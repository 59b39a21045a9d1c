//! Limits that protect a relay from its peers, and their reasons. What an operator can set is [`Limits`].

mod bandwidth;
mod census;
pub(crate) mod descriptors;
mod gate;
mod network;
mod rates;
mod refusals;
mod settings;

pub(crate) use bandwidth::{Bandwidth, Share, Way};
pub(crate) use census::Stay;
pub use gate::RETRIES_PER_SECOND;
pub(crate) use gate::{Gate, Handshake, QuicVerdict};
pub use rates::BURST_SECONDS;
pub use refusals::{Refusal, Refusals};
pub use settings::{AddressHeader, Limits, Proxies, ProxyProtocol};

use std::time::Duration;

/// A connection must have said what it wants by then: TLS handshake, HTTP header and first frame, each.
pub const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// When everything ends, a task has this long to tell its peer.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long agents have to go elsewhere before a stopping relay lets go of sessions that can be resumed.
pub const MOVE_TIME: Duration = Duration::from_millis(500);
/// How long a client waits at least for an agent that is on its way from a relay that stops to another one.
pub const MOVING_WAIT: Duration = Duration::from_secs(10);
/// An agent must have taken a new stream by then; it is a few bytes on a link that is up.
pub const AGENT_STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// A frame on a control stream must have been sent by then; a peer that does not read is gone.
pub const CONTROL_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for an agent, whatever a client asks for.
pub const MAX_WAIT: Duration = Duration::from_hours(1);
/// How often a waiting client hears that it is still waiting.
pub const WAITING_INTERVAL: Duration = Duration::from_secs(5);
/// IDs that are reserved for agents that have never been here. Each is one of [`Limits::agents`].
pub const MAX_RESERVATIONS: usize = 1024;
/// Sessions of one agent, whatever the operator says: below the streams a link allows, so that a link never meets its own
/// limit.
pub const MAX_SESSIONS_PER_AGENT: u32 = 512;
/// A request must have been answered by then, its body read; what the answer then goes on to send has the time it needs.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent's ID stays reserved for its key after its link was lost.
pub const RESERVATION: Duration = Duration::from_mins(10);
/// Agents that a relay of a cluster registers in etcd at the same time; more wait for their turn. What all relays ask at once
/// must be answered before they give etcd up, or etcd is kept busy with what nobody waits for any more (docs/scaling.md).
pub const MAX_CLAIMS: usize = 32;
/// How long one waits for its turn: shorter than an agent waits for an answer, so that nobody is registered who has left.
pub const CLAIM_WAIT: Duration = Duration::from_secs(10);
/// What agents are told to send a ping after, on QUIC (NATs forget UDP after 30 s) and on WebSocket (proxies cut after
/// 30 s).
pub const KEEPALIVE_QUIC: Duration = Duration::from_secs(15);
/// See [`KEEPALIVE_QUIC`].
pub const KEEPALIVE_WEBSOCKET: Duration = Duration::from_secs(20);
/// Files that are offered for download: programs for a few systems, with what else an operator puts beside them.
pub const MAX_DOWNLOADS: usize = 100;
/// Body of a request to the API: the largest that makes sense is a bulk of IDs.
pub const MAX_API_BODY_BYTES: usize = 64 * 1024;
/// A request to the API is done by then; one that asks agents takes up to [`AGENT_STREAM_TIMEOUT`].
pub const API_TIMEOUT: Duration = Duration::from_secs(30);
/// Agents that one request to the API asks for something.
pub const MAX_BULK_AGENTS: usize = 100;
/// One sender asks the API once in this time, on average.
pub const API_INTERVAL: Duration = Duration::from_millis(20);
/// So many requests of one sender may come at once.
pub const API_BURST: u32 = 200;
/// Senders whose rate is known at the same time.
pub const MAX_API_SENDERS: usize = 4096;
/// Streams of events at the same time.
pub const MAX_EVENT_STREAMS: usize = 64;
/// A stream of events says that it is alive when there was nothing else to say for so long.
pub const EVENT_HEARTBEAT: Duration = Duration::from_secs(15);

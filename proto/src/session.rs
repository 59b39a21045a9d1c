//! Sessions that outlive the links below them: offsets, acknowledgements, replay, resume.
//!
//! A session is a byte stream in each direction. Each end keeps what the peer has not acknowledged; when the stream
//! below is lost, or another one is better, the client attaches the session to a new one, both say what they have
//! received, and each goes on from there.
//!
//! * [`messages`]: the payloads of a session's frames.
//! * [`Session`]: one end, as a state machine.
//! * [`AttachGate`]: who may attach, as a state machine.
//! * [`Watch`]: when a peer that does not answer is suspected.

mod decoder;
mod end;
mod gate;
pub mod messages;
mod receiving;
mod sending;
mod watch;

pub use end::{Session, SessionError, SessionEvent};
pub use gate::AttachGate;
pub use messages::{Ack, Attach, Attached, FirstBytes, Notice, Reset, Secret, SessionId, Severity};
pub use sending::DataBuffer;
pub use watch::{Watch, WatchAction};

use std::time::Duration;

/// How many bytes an end takes beyond what its application has consumed, and how many it keeps for replay.
pub const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// The longest payload of a `Data` frame that is sent, a little less than what is taken: with its header it fits into
/// one WebSocket message and one record of a multiplexed stream, where a byte more would cost a second one.
pub const MAX_DATA_BYTES: usize = crate::frame::MAX_CONTROL_PAYLOAD_BYTES - 16;
/// How long a session that has lost its stream is kept for its client to come back, at both ends.
pub const RESUME_WINDOW: Duration = Duration::from_mins(10);

//! A way from the laptop of a lab into its job.

mod converge;
mod sshd;

pub use converge::Converge;
pub use sshd::DirectSshd;

use crate::Lab;
use anyhow::Result;
use std::process::Command;

/// A way that is compared with others.
pub trait Peer {
    /// `ssh` on the laptop, up to and with the host; the command for the job follows.
    ///
    /// # Errors
    /// When a program is missing.
    fn ssh(&self) -> Result<Command>;

    /// Whether it would use UDP, where that passes.
    fn uses_udp(&self) -> bool;

    /// Kills what is in the middle, and starts it again; it listens when this returns. False when there is nothing.
    ///
    /// # Errors
    /// When it does not start again.
    fn restart_middle(&mut self) -> Result<bool>;
}

/// Which ways there are, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenSSH on both sides, and nothing between them.
    Direct,
    /// Relay and agent, on QUIC while it passes.
    Converge,
    /// The same on WebSocket only.
    ConvergeWebSocket,
}

impl Kind {
    /// All of them. The first is what the others are compared with.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Converge, Self::ConvergeWebSocket];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct ssh",
            Self::Converge => "converge",
            Self::ConvergeWebSocket => "converge, WebSocket",
        }
    }

    /// Starts it in a lab that has nothing yet.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub fn start(self, lab: &Lab) -> Result<Box<dyn Peer + '_>> {
        Ok(match self {
            Self::Direct => Box::new(DirectSshd::start(lab)?),
            Self::Converge => Box::new(Converge::start(lab, "auto")?),
            Self::ConvergeWebSocket => Box::new(Converge::start(lab, "websocket")?),
        })
    }
}

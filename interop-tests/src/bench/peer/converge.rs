//! Converge: an agent in the job, a relay between, and `converge ssh` at the laptop.

use super::Peer;
use crate::{Agent, Lab, Relay};
use anyhow::Result;
use rustix::process::Signal;
use std::process::Command;

/// All three of it.
pub struct Converge<'a> {
    lab: &'a Lab,
    agent: Agent,
    relay: Relay,
    transport: &'static str,
}

impl<'a> Converge<'a> {
    /// Starts relay and agent; both legs are on `quic`, `websocket` or `auto`.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(lab: &'a Lab, transport: &'static str) -> Result<Self> {
        let relay = lab.start_relay()?;
        let agent = lab.start_agent_with(&relay, &["--transport", transport], &[])?;
        Ok(Self { lab, agent, relay, transport })
    }
}

impl Peer for Converge<'_> {
    fn ssh(&self) -> Result<Command> {
        let mut ssh = self.lab.openssh("ssh", &self.agent)?;
        ssh.env("CONVERGE_TRANSPORT", self.transport);
        Ok(ssh)
    }

    fn uses_udp(&self) -> bool {
        self.transport != "websocket"
    }

    fn restart_middle(&mut self) -> Result<bool> {
        self.relay.process.signal(Signal::KILL)?;
        self.relay.process.wait()?;
        self.relay = self.lab.start_relay()?;
        Ok(true)
    }
}

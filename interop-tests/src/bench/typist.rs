//! A person who types and watches what comes back.

use super::peer::Peer;
use crate::{Lab, Terminal};
use anyhow::Result;
use std::time::{Duration, Instant};

/// A session in a terminal that sends back what is typed.
pub struct Typist {
    terminal: Terminal,
    typed: u32,
}

impl Typist {
    /// Opens it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn open(lab: &Lab, peer: &dyn Peer) -> Result<Self> {
        let mut command = peer.ssh()?;
        command.args(["-tt", "stty raw -echo; echo ready; exec cat"]);
        let mut terminal = lab.open_terminal("typist", &command)?;
        terminal.expect("ready")?;
        let mut typist = Self { terminal, typed: 0 };
        typist.key()?;
        Ok(typist)
    }

    /// Types something, and returns what is to come back.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn type_key(&mut self) -> Result<String> {
        self.typed += 1;
        let key = format!("<{}>", self.typed);
        self.terminal.type_text(&key)?;
        Ok(key)
    }

    /// Waits for what was typed.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn see(&mut self, key: &str) -> Result<()> {
        self.terminal.expect(key).map(drop)
    }

    /// Types something, and returns how long it took to come back.
    ///
    /// # Errors
    /// When it does not.
    pub fn key(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let key = self.type_key()?;
        self.see(&key)?;
        Ok(begun.elapsed())
    }
}
